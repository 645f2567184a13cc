"""Video jobs whose files are in an S3 server: they go on elsewhere, and bear that it is away for a while."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.clips import ScriptedModel, read_clip, scripted, with_sound
from tests.support.s3 import S3Server
from tests.unit.test_video_runner import WAIT_S, Bench
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.media import object_store
from worker.jobs.media.files import JobFiles
from worker.jobs.media.open import open_media_store
from worker.jobs.media.stored_file import StoredFile
from worker.jobs.settings import Settings
from worker.jobs.specs import validate
from worker.video import publisher


class FarBench(Bench):
    """Its workers' disks are not shared."""

    def submit(self, job_id: str) -> JobFiles:
        files = open_media_store(self.ledger.settings).files(job_id)
        with files.for_upload():
            with_sound(files.folder / "clip.mp4", "aac").rename(files.clip)
            with files.store_inputs():
                self.ledger.submit(job_id, "video.scripted", validate("video", {"effect": "matte"}))
        return files

    def stored(self) -> set[str]:
        return set(object_store.ObjectStore(f"s3://media/{self.ledger.settings.prefix}").list())


@pytest.fixture
def bench(
    s3: S3Server, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FarBench]:
    monkeypatch.setattr(publisher, "PAUSE_S", 0.01)
    model = ScriptedModel()
    with scripted(monkeypatch, model, 3, 2) as video:
        bench = FarBench(Ledger(settings.replace(media_url="s3://media")), video, model)
        yield bench
        bench.outbox.stop(WAIT_S)
        bench.ledger.redis.close()
        assert not [path for home in tmp_path.rglob("staging") for path in home.rglob("*.lock")]


def film(files: JobFiles, path: Path) -> Path:
    video = files.video()
    assert isinstance(video, StoredFile)
    path.write_bytes(b"".join(video.blocks()))
    return path


def test_the_next_worker_has_another_disk_and_goes_on(bench: FarBench, tmp_path: Path) -> None:
    files = bench.submit("a")
    bench.hand_back("a", 7)
    assert len(bench.stored()) == 5, "a clip and four segments"

    bench.worker(home=tmp_path / "elsewhere").run_job(bench.claim("a"))
    assert bench.batches("a", 1) == [0, 1, 2, 3, 4, 5, 6]
    assert bench.batches("a", 2) == [6, 7, 8]
    assert bench.ledger.get("a").state == "succeeded"
    assert bench.stored() == {"a/clip", "a/result.mp4"}
    assert len(read_clip(film(files, tmp_path / "out.mp4")).times) == 25


def test_a_store_that_is_away_for_a_while_is_waited_for(
    bench: FarBench, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the model and the encoder go on meanwhile, up to the end of the next segment."""
    bench.submit("a")
    failed = threading.Event()
    monkeypatch.setattr(object_store, "ANSWER_S", 0.3)
    monkeypatch.setattr(publisher.log, "warning", lambda *_: failed.set())
    with ExitStack() as frozen:

        def on_call(call: int) -> None:
            if call == 1:
                frozen.enter_context(s3.frozen())
            if call == 3:
                assert failed.wait(WAIT_S)
                frozen.close()

        bench.model.on_call = on_call
        bench.runner.run_job(run := bench.claim("a"))
    assert run.outcome == "succeeded"
    assert bench.batches("a", 1) == list(range(9))


def test_a_store_that_stays_away_fails_the_job_and_the_next_is_served(
    bench: FarBench, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit("a")
    bench.submit("b")
    with monkeypatch.context() as patch, s3.frozen():
        patch.setattr(object_store, "ANSWER_S", 0.1)
        patch.setattr(publisher, "WAIT_S", 0.2)
        bench.runner.run_job(bench.claim("a"))
    error = bench.ledger.get("a").error
    assert error == {
        "code": "media_unavailable",
        "message": "The media store is not available (FSTimeoutError).",
    }
    bench.runner.run_job(bench.claim("b"))
    assert bench.ledger.get("b").state == "succeeded"


def test_a_job_is_canceled_while_the_store_is_away(
    bench: FarBench, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit("a")
    run = bench.claim("a")
    monkeypatch.setattr(object_store, "ANSWER_S", 0.1)
    with s3.frozen():
        thread = bench.start(run)
        bench.ledger.cancel("a")
        run.stop()
        thread.join(WAIT_S)
    assert bench.ledger.get("a").state == "canceled"


def test_a_clip_that_is_in_another_store_is_told(bench: FarBench) -> None:
    bench.submit("a")
    bench.worker(media_url="s3://media/elsewhere").run_job(bench.claim("a"))
    error = bench.ledger.get("a").error
    assert error == {
        "code": "media_unavailable",
        "message": "The clip is not in this worker's media store: is it the API's?",
    }
