"""One clip over several workers: the result and the log are those of one worker, whatever helpers do."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.job_ids import A, B
from tests.support.ledger import card, lapse
from tests.support.stack import eventually
from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.clips import is_same_clip, make_clip_with_sound, read_clip
from tests.support.video.jobs import WAIT_S, Hold, VideoHarness, video_harness
from tests.support.video.pipeline import stub_pipeline
from tests.unit.video.test_seeking import FRAMES, QUIET, damage_frame, write
from worker.jobs.errors import EngineDied
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.segments import Segments
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.files import JobFiles
from worker.jobs.records import Record
from worker.jobs.specs import VideoJob, validate
from worker.runs.run import Run
from worker.video import video_helper
from worker.video.boards import OwnerBoard
from worker.video.decoding import reader
from worker.video.decoding.reader import ClipReader
from worker.video.encoding.segments import SegmentFolder
from worker.video.inference import device_thread
from worker.video.request import PipelineCanceled
from worker.video.runner import HANG_S, VideoRunner
from worker.video.share_plan import ClipPlan, Taken

QUEUE = "video.stub"
#: The clip has 25 frames in 9 batches, and 5 segments.
SEGMENTS = 5
ALONE, JOB = A, B
#: The packets, of the 40 of a clip, that the owner reads first and that a helper reads first.
DAMAGED = {"owner": 9, "helper": 30}


class Helper:
    """A worker that helps with videos in a thread of its own."""

    def __init__(self, name: str, harness: VideoHarness, runner: VideoRunner, model: StubVideoModel) -> None:
        self.name, self.runner, self.model = name, runner, model
        self.idle, self.stopping = True, threading.Event()
        self._harness = harness
        self.renew()

    def renew(self) -> None:
        registry = Registry(self._harness.ledger.store)
        registry.renew(replace(card(self.name, slots=1), kind="video", queue=QUEUE))

    def help(self) -> bool:
        return self.runner.help(QUEUE, self.name, f"gpu of {self.name}", lambda: self.idle, self.stopping)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.help)
        thread.start()
        return thread


class Sharing:
    """The owner of a video, and its helpers."""

    def __init__(self, harness: VideoHarness) -> None:
        self.harness, self.ledger, self.model = harness, harness.ledger, harness.model
        self._pipelines: list[Any] = []

    def helper(self, name: str = "h", hang_s: float = HANG_S) -> Helper:
        model = StubVideoModel()
        context = stub_pipeline(model, 3, 2)
        video = context.__enter__()
        self._pipelines.append(context)
        runner = VideoRunner(video, self.ledger.store.settings, hang_s=hang_s, ledger=self.ledger)
        runner.start(self.harness.broken.append)
        return Helper(name, self.harness, runner, model)

    def owner(self, job_id: str, worker: str = "w") -> tuple[Run, threading.Thread]:
        Registry(self.ledger.store).renew(replace(card(worker, slots=1), kind="video", queue=QUEUE))
        run = self.harness.claim(job_id, worker)
        return run, self.harness.start(run, self.harness.worker(ledger=self.ledger))

    def close(self) -> None:
        for context in self._pipelines:
            context.__exit__(None, None, None)

    def workers(self, job_id: str) -> list[str]:
        """Return the worker of each batch, which must be in order."""
        batches = [event.data for event in self.ledger.events(job_id) if event.type == "batch"]
        assert [batch["index"] for batch in batches] == list(range(9))
        return [batch["worker"] for batch in batches]

    def segments(self, files: JobFiles) -> list[int]:
        """Return the first frames of the segments that are published."""
        return sorted(int(path.name.partition("-")[0]) for path in files.work.glob("*/*.nut"))


@pytest.fixture
def sharing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sharing]:
    """All jobs have the very same clip, because x264 does not make the same one each time under load."""
    clip = make_clip_with_sound(tmp_path / "clip.mp4", "aac")
    with video_harness(ledger, monkeypatch) as harness:
        monkeypatch.setattr(harness, "write_clip", lambda files: shutil.copy(clip, files.clip))
        sharing = Sharing(harness)
        yield sharing
        sharing.close()


@pytest.fixture
def alone(sharing: Sharing, tmp_path: Path) -> Path:
    """The result of one worker."""
    files = sharing.harness.submit(ALONE)
    sharing.harness.start(sharing.harness.claim(ALONE)).join(WAIT_S)
    return files.result


def assert_same(result: Path, alone: Path) -> None:
    assert is_same_clip(read_clip(result), read_clip(alone))


def test_helper_computes_segments_beside_owner(sharing: Sharing, alone: Path) -> None:
    hold, helper = Hold(1), sharing.helper()
    files = sharing.harness.submit(JOB)
    sharing.model.calls, sharing.model.on_call = 0, hold
    _, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    assert helper.help()
    assert sharing.segments(files) == [12, 18, 24]
    hold.go_on.set()
    thread.join(WAIT_S)
    assert sharing.ledger.get(JOB).error is None
    assert sharing.workers(JOB) == ["w"] * 4 + ["h"] * 5
    assert sharing.harness.progress(JOB, 1) == [3, 6, 9, 12, 15, 18, 21, 24, 25]
    assert_same(files.result, alone)
    assert not files.work.exists()


def test_owner_takes_over_from_helper_whose_lease_has_ended(sharing: Sharing, alone: Path) -> None:
    hold, helper, helper_holds = Hold(1), sharing.helper(), Hold(0)
    files = sharing.harness.submit(JOB)
    sharing.model.calls, sharing.model.on_call, helper.model.on_call = 0, hold, helper_holds
    _, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    helping = helper.start()
    assert helper_holds.reached.wait(WAIT_S)
    lapse(sharing.ledger, "h")
    hold.go_on.set()
    thread.join(WAIT_S)
    assert sharing.workers(JOB) == ["w"] * 9
    assert_same(files.result, alone)
    helper_holds.go_on.set()
    helping.join(WAIT_S)
    assert not files.work.exists()


def test_owner_computes_what_helper_fails(sharing: Sharing, alone: Path) -> None:
    """The helper does not try again to help with the job."""
    hold, helper = Hold(1), sharing.helper()

    def fail(call: int) -> None:
        raise ValueError

    files = sharing.harness.submit(JOB)
    sharing.model.calls, sharing.model.on_call, helper.model.on_call = 0, hold, fail
    _, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    assert helper.help()
    assert not helper.help()
    hold.go_on.set()
    thread.join(WAIT_S)
    assert sharing.workers(JOB) == ["w"] * 9
    assert_same(files.result, alone)


@pytest.mark.parametrize("at_once", [False, True])
def test_helper_ends_with_its_segment_or_at_once(sharing: Sharing, alone: Path, at_once: bool) -> None:
    """A job that arrives lets the helper finish its segment. A worker that drains gives it back."""
    hold, helper = Hold(1), sharing.helper()

    def end(call: int) -> None:
        helper.idle = False
        if at_once:
            helper.stopping.set()

    files = sharing.harness.submit(JOB)
    sharing.model.calls, sharing.model.on_call, helper.model.on_call = 0, hold, end
    _, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    assert helper.help()
    assert sharing.segments(files) == ([] if at_once else [12])
    hold.go_on.set()
    thread.join(WAIT_S)
    by_helper = 0 if at_once else 2
    assert sharing.workers(JOB) == [*["w"] * 4, *["h"] * by_helper, *["w"] * (5 - by_helper)]
    assert_same(files.result, alone)


def test_next_attempt_reports_segments_of_helpers_and_computes_others(sharing: Sharing, alone: Path) -> None:
    hold, helper = Hold(1), sharing.helper()
    files = sharing.harness.submit(JOB)
    sharing.model.calls, sharing.model.on_call = 0, hold
    run, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    assert helper.help()
    run.abandon()
    sharing.ledger.requeue(JOB, "w", "drain")
    hold.go_on.set()
    thread.join(WAIT_S)
    calls = sharing.model.calls
    _, thread = sharing.owner(JOB, "other")
    thread.join(WAIT_S)
    assert sharing.model.calls - calls == 4
    assert sharing.harness.batches(JOB, 2) == list(range(1, 9))
    assert sharing.workers(JOB) == ["w", *["other"] * 3, *["h"] * 5]
    assert_same(files.result, alone)


@pytest.mark.parametrize("kept", [0, 1])
def test_next_attempt_computes_reported_segments_that_are_not_here(
    sharing: Sharing, alone: Path, kept: int
) -> None:
    """Another release has made them, or they were not published yet. No batch is reported again."""
    hold, files = Hold(8), sharing.harness.submit(JOB)
    sharing.model.calls, sharing.model.on_call = 0, hold
    run, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    run.emit().result(WAIT_S)
    run.abandon()
    sharing.ledger.requeue(JOB, "w", "drain")
    hold.go_on.set()
    thread.join(WAIT_S)
    for segment in sorted(files.work.glob("*/*.nut"))[kept:]:
        segment.unlink()
    sharing.model.calls = 0
    _, thread = sharing.owner(JOB, "other")
    thread.join(WAIT_S)
    assert sharing.ledger.get(JOB).error is None
    assert sharing.model.calls == 9 - 2 * kept
    assert sharing.workers(JOB) == [*["w"] * 8, "other"]
    assert_same(files.result, alone)


def test_worker_alone_takes_one_segment_after_the_other(sharing: Sharing, alone: Path) -> None:
    """It leaves no facts beside segments whose batches are reported."""
    files, facts = sharing.harness.submit(JOB), set[Path]()
    sharing.model.on_call = lambda call: facts.update(files.work.glob("*/*.json"))
    _, thread = sharing.owner(JOB)
    thread.join(WAIT_S)
    assert sharing.workers(JOB) == ["w"] * 9
    assert not facts
    assert_same(files.result, alone)


@pytest.mark.parametrize("alone_because", ["sequential", "setting"])
def test_video_is_not_offered(sharing: Sharing, monkeypatch: pytest.MonkeyPatch, alone_because: str) -> None:
    hold, helper = Hold(4), sharing.helper()
    if alone_because == "sequential":
        monkeypatch.setattr(sharing.model, "sequential", True)
    files = sharing.harness.submit(JOB)
    sharing.model.on_call = hold
    runner = sharing.harness.worker(ledger=sharing.ledger, video_help=alone_because != "setting")
    thread = sharing.harness.start(sharing.harness.claim(JOB), runner)
    assert hold.reached.wait(WAIT_S)
    assert not helper.help()
    hold.go_on.set()
    thread.join(WAIT_S)
    assert sharing.workers(JOB) == ["w"] * 9
    assert files.result.exists()


def test_owner_without_redis_takes_the_next_segment_that_it_does_not_have(ledger: Ledger) -> None:
    """A ledger that knows no such attempt is one that has lost the claim in a failover."""
    plan, record = ClipPlan("folder", 6, 0, 25), replace(a_record(ledger), claim="unknown")
    files = JobFiles.at(ledger.store.settings.media_dir, JOB)
    away = RedisStore(ledger.store.settings.replace(redis_url="redis://127.0.0.1:1/0", redis_timeout_s=0.1))
    for store in (ledger.store, away):
        board = OwnerBoard(Segments(store), record, files)
        assert board.take(plan, first=1, held={1, 2}, steal=False) == Taken(3)
        assert board.take(plan, first=3, held={3, 4}, steal=False) == Taken(None)


def a_record(ledger: Ledger) -> Record:
    ledger.submit(JOB, QUEUE, validate(VideoJob, {}))
    record = ledger.claim(JOB, "w", "cpu")
    assert record is not None
    return record


@pytest.mark.parametrize("pause_s", [0, 0.05], ids=["fast", "slow"])
def test_clip_that_has_fewer_frames_than_its_index(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pause_s: float
) -> None:
    """The frame before the lost one ends a batch. A slow decoder finds the end after this batch has run."""
    options: dict[str, Any] = {"x265-params": QUIET}
    clip = damage_frame(write(tmp_path / "short.mp4", "libx265", **options), FRAMES - 1, 5)
    monkeypatch.setattr(sharing.harness, "write_clip", lambda files: shutil.copy(clip, files.clip))
    fill = ClipReader._fill

    def fill_slowly(self: ClipReader, *args: Any) -> Any:
        threading.Event().wait(pause_s)
        return fill(self, *args)

    monkeypatch.setattr(ClipReader, "_fill", fill_slowly)
    files = sharing.harness.submit(JOB)
    _, thread = sharing.owner(JOB)
    thread.join(WAIT_S)
    assert sharing.harness.progress(JOB, 1) == [*range(3, FRAMES, 3)]
    assert len(read_clip(files.result).times) == FRAMES - 1


@pytest.mark.parametrize("who", ["owner", "helper"])
def test_damaged_frame_in_shared_clip_ends_the_help(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, who: str
) -> None:
    """The result is that of one worker, and no batch is reported again."""
    keys: dict[str, Any] = {"keys": (9, 12, 30), "forced-idr": "1"}
    clip = damage_frame(write(tmp_path / "damaged.mp4", **keys), DAMAGED[who], 400)
    monkeypatch.setattr(sharing.harness, "write_clip", lambda files: shutil.copy(clip, files.clip))
    single, files = sharing.harness.submit(ALONE), sharing.harness.submit(JOB)
    sharing.harness.start(sharing.harness.claim(ALONE)).join(WAIT_S)
    hold, helper = Hold(0), sharing.helper()
    sharing.model.calls, sharing.model.on_call = 0, hold
    _, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    assert helper.help()
    assert sharing.segments(files)[0] == 12
    hold.go_on.set()
    thread.join(WAIT_S)
    assert sharing.harness.progress(JOB, 1) == [*range(3, FRAMES, 3), FRAMES]
    events = {job_id: sharing.ledger.events(job_id) for job_id in (ALONE, JOB)}
    indices = [event.data["index"] for event in events[JOB] if event.type == "batch"]
    assert indices == list(range(14))
    concealed = [found[-1].data["result"]["concealed"] for found in events.values()]
    assert concealed == [1, 1]
    assert_same(files.result, single.result)
    assert not files.work.exists()


@pytest.mark.parametrize("told_by", ["stopping", "owner"])
def test_batch_of_helper_that_hangs_ends_the_worker(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    """It does so some time after the worker was told to stop, or after the job has ended."""
    monkeypatch.setattr(video_helper, "LOOK_S", 0.1)
    monkeypatch.setattr(device_thread, "WAIT_S", 0.1)
    hold, helper, hangs = Hold(1), sharing.helper(hang_s=0.3), Hold(0)
    sharing.harness.submit(JOB)
    sharing.model.calls, sharing.model.on_call, helper.model.on_call = 0, hold, hangs
    run, thread = sharing.owner(JOB)
    assert hold.reached.wait(WAIT_S)
    helping = helper.start()
    assert hangs.reached.wait(WAIT_S)
    helping.join(0.5)
    assert not sharing.harness.broken
    if told_by == "stopping":
        helper.stopping.set()
    else:
        run.abandon()
        sharing.ledger.requeue(JOB, "w", "drain")
    eventually(lambda: sharing.harness.broken, "a broken engine")
    assert [type(error) for error in sharing.harness.broken] == [EngineDied]
    run.abandon()
    hangs.go_on.set()
    hold.go_on.set()
    helping.join(WAIT_S)
    thread.join(WAIT_S)


def test_attempt_that_goes_on_alone_makes_segments_with_facts_again_if_index_is_wrong(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The attempt before ends just as it finds the damaged frame. Too little is left then for a helper."""
    monkeypatch.setattr(reader, "BUFFERS", 1)  # otherwise the frame is found before earlier batches have run
    options: dict[str, Any] = {"keys": (36,), "forced-idr": "1"}
    clip = damage_frame(write(tmp_path / "damaged.mp4", **options), 36, 400)
    monkeypatch.setattr(sharing.harness, "write_clip", lambda files: shutil.copy(clip, files.clip))
    files, helper = sharing.harness.submit(JOB), sharing.helper()

    def let_help(call: int) -> None:
        if call == 3:
            helper.help()

    sharing.model.on_call = let_help
    run, thread = sharing.owner(JOB)

    def end(folder: SegmentFolder) -> None:
        run.emit().result(WAIT_S)
        run.abandon()
        sharing.ledger.requeue(JOB, "w", "drain")
        raise PipelineCanceled

    with monkeypatch.context() as patch:
        patch.setattr(SegmentFolder, "ignore_index", end)
        thread.join(WAIT_S)
    assert sharing.harness.progress(JOB, 1) == list(range(3, 37, 3))
    _, thread = sharing.owner(JOB, "other")
    thread.join(WAIT_S)
    assert sharing.ledger.get(JOB).error is None
    assert sharing.harness.progress(JOB, 2) == [39, FRAMES]
    assert sharing.ledger.events(JOB)[-1].data["result"]["concealed"] == 1
    assert len(read_clip(files.result).times) == FRAMES
