"""The video runner with an S3 server as media store: other workers continue jobs, and runs retry."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from torch import Tensor

from tests.support.job_ids import A, B
from tests.support.ledger import card
from tests.support.s3 import S3Server
from tests.support.video import frame_models
from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.clips import is_same_clip, read_clip
from tests.support.video.jobs import WAIT_S, Hold, VideoHarness
from tests.support.video.pipeline import make_stub_pipeline
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.files import RECORDS, VIDEO, JobFiles
from worker.jobs.media.object_store import TIMEOUT_S, ObjectStore
from worker.jobs.media.open import open_media_store
from worker.jobs.media.remote import RemoteMedia
from worker.jobs.media.stored_file import StoredFile
from worker.jobs.settings import Settings
from worker.jobs.specs import VideoJob, validate
from worker.video.model import Clip, Pass
from worker.video.models.find import find_model
from worker.video.pipeline import VideoPipeline
from worker.video.publisher import StoreRetry
from worker.video.runner import VideoRunner

#: A retry policy that does not slow the tests down.
RETRY = StoreRetry(pause_s=0.01)


class RemoteVideoHarness(VideoHarness):
    """A harness whose media store is remote: its workers share no disk."""

    def submit(self, job_id: str, **fields: object) -> JobFiles:
        files = open_media_store(self.ledger.store.settings).files(job_id)
        with files.for_upload():
            self.write_clip(files)
            with files.store_inputs():
                self.ledger.submit(job_id, "video.stub", validate(VideoJob, fields or {"effect": "matte"}))
        return files

    def store(self, timeout_s: float = TIMEOUT_S) -> ObjectStore:
        return ObjectStore(f"s3://media/{self.ledger.store.settings.prefix}", timeout_s=timeout_s)

    def stored(self) -> set[str]:
        """Return the keys of all stored files."""
        return set(self.store().list())

    def impatient_worker(self, timeout_s: float, store_retry: StoreRetry = RETRY) -> VideoRunner:
        """Return the runner of a worker that waits for the store's answers only so long."""
        media = RemoteMedia(self.store(timeout_s), self.ledger.store.settings.staging_dir)
        return self.worker(media=media, store_retry=store_retry)


@pytest.fixture
def harness(
    s3: S3Server, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[RemoteVideoHarness]:
    model = StubVideoModel()
    ledger = Ledger(RedisStore(settings.replace(media_url="s3://media")))
    harness = RemoteVideoHarness(ledger, lambda: make_stub_pipeline(model, 3, 2), model, RETRY)
    yield harness
    harness.stop()
    ledger.store.close()
    assert not [path for home in tmp_path.rglob("staging") for path in home.rglob("*.lock")]


def download(files: JobFiles, path: Path) -> Path:
    video = files.finished(VIDEO)
    assert isinstance(video, StoredFile)
    path.write_bytes(b"".join(video.blocks()))
    return path


def test_video_runner_continues_job_on_another_disk(harness: RemoteVideoHarness, tmp_path: Path) -> None:
    files = harness.submit(A)
    harness.hand_back(A, 7)
    assert len(harness.stored()) == 5, "a clip and four segments"

    harness.worker(home=tmp_path / "elsewhere").run_job(harness.claim(A))
    assert harness.batches(A, 1) == [0, 1, 2, 3, 4, 5, 6]
    assert harness.batches(A, 2) == [6, 7, 8]
    assert harness.ledger.get(A).state == "succeeded"
    assert harness.stored() == {f"{A}/clip", f"{A}/result.mp4"}
    assert len(read_clip(download(files, tmp_path / "out.mp4")).times) == 25


def test_video_runner_joins_segments_that_a_helper_has_made_on_another_disk(
    harness: RemoteVideoHarness, tmp_path: Path
) -> None:
    ledger, hold, helper_model = harness.ledger, Hold(1), StubVideoModel()
    for worker in ("w", "h"):
        Registry(ledger.store).renew(replace(card(worker, slots=1), kind="video", queue="video.stub"))
    files = harness.submit(A)
    harness.model.on_call = hold
    thread = harness.start(harness.claim(A), harness.worker(ledger=ledger))
    assert hold.reached.wait(WAIT_S)
    elsewhere = ledger.store.settings.replace(home=tmp_path / "elsewhere")
    helper = VideoRunner(make_stub_pipeline(helper_model, 3, 2), elsewhere, ledger=ledger)
    helper.start(harness.broken.append)
    assert helper.help("video.stub", "h", "gpu", lambda: True, threading.Event())
    helper.stop()
    hold.go_on.set()
    thread.join(WAIT_S)
    workers = [event.data["worker"] for event in ledger.events(A) if event.type == "batch"]
    assert ledger.get(A).error is None
    assert workers == ["w"] * 4 + ["h"] * 5
    assert harness.stored() == {f"{A}/clip", f"{A}/result.mp4"}
    assert len(read_clip(download(files, tmp_path / "out.mp4")).times) == 25


class HeldTrail(frame_models.Trail):
    """A model with state that calls `on_call` with the number of each call. Blank batches do not count."""

    on_call: ClassVar[Callable[[int], None]]

    def start(self, clip: Clip, options: frame_models.TrailOptions) -> Pass:
        return HeldPass(options.keep)


class HeldPass(frame_models.TrailPass):
    """A pass of `HeldTrail`."""

    calls = 0

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        if valid:
            HeldTrail.on_call(self.calls)
            self.calls += 1
        return super().__call__(frames, valid)


@contextmanager
def serving(model: str, settings: Settings) -> Iterator[RemoteVideoHarness]:
    """Yield a harness with the model of this class."""

    def pipeline() -> VideoPipeline:
        return VideoPipeline(lambda: find_model(model, "stub"), batch_size=3, segment_batches=2)

    ledger = Ledger(RedisStore(settings.replace(media_url="s3://media")))
    harness = RemoteVideoHarness(ledger, pipeline, cast(Any, HeldTrail), RETRY)
    yield harness
    harness.stop()
    ledger.store.close()


def test_video_runner_has_published_records_when_job_succeeds(s3: S3Server, settings: Settings) -> None:
    with serving("tests.support.video.frame_models:Brightness", settings) as harness:
        files = harness.submit(A, pad="last")
        harness.runner.run_job(harness.claim(A))
        assert harness.ledger.get(A).state == "succeeded"
        assert harness.stored() == {f"{A}/clip", f"{A}/result.ndjson"}
        lines = files.finished(RECORDS)
        assert isinstance(lines, StoredFile)
        assert b"".join(lines.blocks()).count(b"\n") == 25


@pytest.mark.long
def test_video_runner_continues_with_state_on_another_disk(
    s3: S3Server, settings: Settings, tmp_path: Path
) -> None:
    with serving(f"{__name__}:HeldTrail", settings) as harness:
        HeldTrail.on_call = staticmethod(lambda call: None)
        whole, broken = (harness.submit(job_id, options={"keep": 0.9}) for job_id in (A, B))
        harness.runner.run_job(harness.claim(A))
        harness.hand_back(B, 7)
        harness.worker(home=tmp_path / "elsewhere").run_job(harness.claim(B))
        assert harness.batches(B, 2) == [6, 7, 8]
        expected, made = download(whole, tmp_path / "a.mp4"), download(broken, tmp_path / "b.mp4")
    assert is_same_clip(read_clip(made), read_clip(expected))


def test_video_runner_retries_while_store_is_unavailable(
    harness: RemoteVideoHarness, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the model and the encoder continue to the end of the next segment."""
    harness.submit(A)
    failed = threading.Event()
    monkeypatch.setattr(logging.getLogger("worker.video.publisher"), "warning", lambda *_, **__: failed.set())
    with ExitStack() as frozen:

        def on_call(call: int) -> None:
            if call == 1:
                frozen.enter_context(s3.frozen())
            if call == 3:
                assert failed.wait(WAIT_S)
                frozen.close()

        harness.model.on_call = on_call
        harness.impatient_worker(0.3).run_job(run := harness.claim(A))
    assert run.outcome == "succeeded"
    assert harness.batches(A, 1) == list(range(9))


def test_video_runner_fails_job_if_store_stays_unavailable(harness: RemoteVideoHarness, s3: S3Server) -> None:
    harness.submit(A)
    harness.submit(B)
    with s3.frozen():
        harness.impatient_worker(0.1, replace(RETRY, give_up_s=0.2)).run_job(harness.claim(A))
    error = harness.ledger.get(A).error
    assert error == {
        "code": "media_unavailable",
        "message": "The media store is not available (FSTimeoutError).",
    }
    harness.runner.run_job(harness.claim(B))
    assert harness.ledger.get(B).state == "succeeded"


def test_video_runner_cancels_job_while_store_is_unavailable(
    harness: RemoteVideoHarness, s3: S3Server
) -> None:
    harness.submit(A)
    run = harness.claim(A)
    with s3.frozen():
        thread = harness.start(run, harness.impatient_worker(0.1))
        harness.ledger.cancel(A)
        run.stop()
        thread.join(WAIT_S)
    assert harness.ledger.get(A).state == "canceled"


def test_video_runner_reports_clip_in_other_store(harness: RemoteVideoHarness) -> None:
    harness.submit(A)
    harness.worker(media_url="s3://media/elsewhere").run_job(harness.claim(A))
    error = harness.ledger.get(A).error
    assert error == {
        "code": "media_unavailable",
        "message": "The clip is not in this worker's media store: is it the API's?",
    }
