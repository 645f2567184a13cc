"""A video run that is cut short: the next run continues after the last segment, with the same result."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.clips import (
    Clip,
    gradient,
    is_same_clip,
    libav_warnings,
    make_clip,
    make_clip_with_sound,
    read_clip,
)
from tests.support.video.pipeline import stub_pipeline
from tests.support.video.sounds import SoundTrack, make_sound_clip
from worker.video.decoding.reader import ClipReader
from worker.video.encoding.encoder import RECIPE
from worker.video.request import BatchDone, PipelineCanceled, VideoRequest, VideoResult
from worker.video.sandbox.sandbox import Sandbox

#: 25 frames make 9 batches. The last one has one frame.
BATCH, BATCHES = 3, 9
#: Segments that two encoders can leave unfinished: one each, and the one that is being filled.
OPEN = 3


class Killed(BaseException):
    """The end of a run, as a BaseException that the pipeline does not catch."""


@dataclass
class Job:
    """A job that several pipelines run one after the other. They share only its folder."""

    request: VideoRequest
    segment_batches: int = 2
    batch_size: int = BATCH

    def run(
        self,
        monkeypatch: pytest.MonkeyPatch,
        on_batch: Callable[[BatchDone], None] = lambda batch: None,
        canceled: Callable[[], bool] = lambda: False,
        model: StubVideoModel | None = None,
    ) -> tuple[VideoResult, list[int]]:
        """Run the job on a new pipeline. Return the result and the indices of the processed batches."""
        done: list[int] = []

        def report(batch: BatchDone) -> None:
            done.append(batch.index)
            assert batch.done == min(25, (batch.index + 1) * self.batch_size)
            self.request = replace(self.request, done=batch.done)
            on_batch(batch)

        model = model or StubVideoModel()
        with stub_pipeline(model, self.batch_size, self.segment_batches) as video:
            return video.run_clip(self.request, on_batch=report, canceled=canceled), done

    @property
    def result(self) -> Clip:
        assert libav_warnings(self.request.target) == []
        return read_clip(self.request.target)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = make_clip_with_sound(tmp_path / "in.mp4", "aac", Fraction(1, 5))
    return Job(VideoRequest(source, tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"}))


def undisturbed(job: Job, monkeypatch: pytest.MonkeyPatch) -> Clip:
    """Return the result of the same job in another folder, without interruption."""
    folder = job.request.work.parent / "undisturbed"
    folder.mkdir()
    other = replace(job.request, work=folder, target=folder / "out.mp4", done=0)
    whole = Job(other, job.segment_batches, job.batch_size)
    whole.run(monkeypatch)
    source, result = read_clip(job.request.source), whole.result
    assert [t - result.times[0] for t in result.times] == [t - source.times[0] for t in source.times]
    assert [sound for _, sound in result.audio] == [sound for _, sound in source.audio]
    return result


def kill_after(index: int) -> Callable[[BatchDone], None]:
    def on_batch(batch: BatchDone) -> None:
        if batch.index == index:
            raise Killed

    return on_batch


def kill_at_join(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(self: Sandbox, task: str, **arguments: object) -> dict[str, Any]:
        if task == "join":
            raise Killed
        return original(self, task, **arguments)

    original = Sandbox.call
    monkeypatch.setattr(Sandbox, "call", call)


@pytest.mark.parametrize(
    "segment_batches", [1, 4, *(pytest.param(batches, marks=pytest.mark.long) for batches in (2, 9, 100))]
)
def test_pipeline_resume_repeats_at_most_one_segment(
    job: Job, monkeypatch: pytest.MonkeyPatch, segment_batches: int, tmp_path: Path
) -> None:
    job.segment_batches = segment_batches
    expected = undisturbed(job, monkeypatch)
    for index in range(BATCHES):
        job.request = replace(job.request, work=tmp_path / f"work-{index}", done=0)
        with pytest.raises(Killed):
            job.run(monkeypatch, kill_after(index))
        assert not job.request.target.exists()
        result, again = job.run(monkeypatch)
        assert again == list(range(again[0] if again else BATCHES, BATCHES))
        assert index + 1 - (BATCHES - len(again)) <= segment_batches
        assert (result.frames, result.batches, result.padded) == (25, 9, 2)
        assert is_same_clip(job.result, expected)
        job.request.target.unlink()


def test_pipeline_resume_after_every_batch(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """With segments of one batch, each run finishes at least one more batch."""
    job.segment_batches = 1
    expected, runs = undisturbed(job, monkeypatch), 0

    def on_batch(batch: BatchDone) -> None:
        if len(reported) == 2:
            raise Killed
        reported.append(batch.index)

    while not job.request.target.exists():
        reported: list[int] = []
        runs += 1
        try:
            job.run(monkeypatch, on_batch)
        except Killed:
            assert runs < BATCHES
    assert runs > 3
    assert is_same_clip(job.result, expected)


def test_pipeline_resume_repeats_unreported_batches(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment may be durable before its batches are in the log. They run again, so the log has them all."""
    with pytest.raises(Killed):
        job.run(monkeypatch, kill_after(7))
    job.request = replace(job.request, done=9)
    assert job.run(monkeypatch)[1] == [2, 3, 4, 5, 6, 7, 8]


def test_pipeline_resume_after_join_only_joins(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = undisturbed(job, monkeypatch)
    with monkeypatch.context() as patch:
        kill_at_join(patch)
        with pytest.raises(Killed):
            job.run(monkeypatch)
    assert not job.request.target.exists()
    model = StubVideoModel()
    with monkeypatch.context() as patch:
        patch.setattr(ClipReader, "batches", None)
        result, done = job.run(monkeypatch, model=model)
    assert (done, model.calls) == ([], 0)
    assert (result.frames, result.batches, result.padded) == (25, 9, 2)
    assert is_same_clip(job.result, expected)


def test_pipeline_canceled_at_join_leaves_existing_result(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = 0
    job.request.target.write_bytes(b"the result of another attempt")

    def canceled() -> bool:
        nonlocal checks
        checks += 1
        return checks == BATCHES + 1

    with pytest.raises(PipelineCanceled):
        job.run(monkeypatch, canceled=canceled)
    assert job.request.target.read_bytes() == b"the result of another attempt"
    assert not list(job.request.work.rglob("*.partial"))
    assert job.run(monkeypatch)[1] == []


def test_pipeline_cancel_works_while_frames_are_skipped(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Killed):
        job.run(monkeypatch, kill_after(7))
    model = StubVideoModel()
    with pytest.raises(PipelineCanceled):
        job.run(monkeypatch, canceled=lambda: True, model=model)
    assert model.calls == 0


@pytest.mark.parametrize("change", ["encoder", "batch size"])
def test_pipeline_resume_ignores_segments_of_other_recipe(
    job: Job, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with pytest.raises(Killed):
        job.run(monkeypatch, kill_after(7))
    if change == "encoder":
        [segments] = job.request.work.iterdir()
        segments.rename(segments.with_name(segments.name.replace(RECIPE, "av99")))
    else:
        job.batch_size = 5
    result, done = job.run(monkeypatch)
    assert done == list(range(result.batches))
    assert len(job.result.times) == 25


@pytest.mark.parametrize(
    ("frames", "batch_size", "segment_batches"),
    [(1, 1, 1), (1, 4, 2), (7, 1, 1), (8, 4, 1), (16, 4, 2), (17, 4, 2), (15, 4, 2)],
)
def test_pipeline_keeps_any_number_of_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, batch_size: int, segment_batches: int
) -> None:
    """The frames have irregular times, and pictures that change slowly enough for B-frames."""
    pts = [40 * number + 7 * (number % 3) for number in range(frames)]
    pictures = [gradient(number // 6) for number in range(frames)]
    source = make_clip(tmp_path / "in.mkv", pictures, pts=pts, time_base=Fraction(1, 1000))
    request = VideoRequest(source, tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"})
    with stub_pipeline(StubVideoModel(), batch_size, segment_batches) as video:
        for runs in range(2):
            request = replace(request, done=runs * frames)
            result = video.run_clip(request, on_batch=lambda _: None, canceled=lambda: False)
            assert (result.frames, result.batches) == (frames, -(-frames // batch_size))
            assert result.padded == -frames % batch_size
            assert read_clip(request.target).times == [Fraction(t, 1000) for t in pts]
            assert libav_warnings(request.target) == []


def test_pipeline_supports_two_runs_in_one_folder(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens if one of them has lost the job without knowing it."""
    expected = undisturbed(job, monkeypatch)
    in_step = threading.Barrier(2)
    model = StubVideoModel()
    results: list[VideoResult] = []
    with stub_pipeline(model, BATCH, 2) as video:

        def on_batch(batch: BatchDone) -> None:
            in_step.wait(20)

        def work(target: Path) -> None:
            request = replace(job.request, target=target)
            results.append(video.run_clip(request, on_batch=on_batch, canceled=lambda: False))

        targets = [job.request.target, job.request.target.with_name("other.mp4")]
        threads = [threading.Thread(target=work, args=(target,)) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [result.batches for result in results] == [9, 9]
    assert model.calls == 18
    for target in targets:
        assert is_same_clip(read_clip(target), expected)


def test_pipeline_resume_keeps_odd_times_and_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sound is encoded, the frames have irregular times, and the last run decodes no frame."""
    times = [3 * n * n + n % 2 for n in range(24)] + [1900]
    source = make_sound_clip(tmp_path / "in.mkv", SoundTrack("pcm_u8", 8000, "mono"), times_ms=times)
    job = Job(VideoRequest(source, tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"}))
    whole = replace(job.request, target=tmp_path / "whole.mp4", work=tmp_path / "whole")
    result, _ = Job(whole).run(monkeypatch)
    with pytest.raises(Killed):
        job.run(monkeypatch, kill_after(4))
    with monkeypatch.context() as patch:
        kill_at_join(patch)
        with pytest.raises(Killed):
            job.run(monkeypatch)
    again, done = job.run(monkeypatch)
    assert done == []
    assert (again.duration_s, again.tracks) == (result.duration_s, result.tracks)
    assert again.tracks.audio[0].action == "encoded"
    assert is_same_clip(job.result, read_clip(whole.target))
    assert job.result.times == [Fraction(time, 1000) for time in times]
    assert durations(job.request.target) == durations(whole.target)


def durations(path: Path) -> list[int | None]:
    with av.open(path) as container:
        return [stream.duration for stream in container.streams]


CHILD = """
import sys
from pathlib import Path
from tests.support.video.alpha_models import StubVideoModel
from worker.video.pipeline import VideoPipeline
from worker.video.request import VideoRequest
from worker.video.sandbox.sandbox import Sandbox

source, target, work, done, mode = sys.argv[1:]
video = VideoPipeline(lambda: StubVideoModel().found, batch_size=3, segment_batches=2, encoders=2)
video.load()
checks = 0

def stop():
    print("stopped", flush=True)
    sys.stdin.read()

def receive(self):
    if mode == "joining" and checks == 9:
        stop()
    return original(self)

original, Sandbox.receive = Sandbox.receive, receive

def canceled():
    global checks
    checks += 1
    if mode == "joined" and checks == 10:
        stop()
    return False

request = VideoRequest(Path(source), Path(target), Path(work), {"effect": "matte"}, done=int(done))
video.run_clip(request, on_batch=lambda batch: print(batch.done, flush=True), canceled=canceled)
"""


def run_and_kill(request: VideoRequest, mode: str, lines: int) -> Sequence[str]:
    """Run the request in a child process and kill it after `lines` lines of output. Return these lines."""
    paths = map(str, (request.source, request.target, request.work, request.done, mode))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        printed = [line.strip() for _, line in zip(range(lines), child.stdout, strict=False)]
        child.kill()
    return printed


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_pipeline_resume_after_kill_repeats_only_open_segments(
    job: Job, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    expected = undisturbed(job, monkeypatch)
    for _ in range(2):
        output = run_and_kill(job.request, "free", rng.randint(1, 5))
        job.request = replace(job.request, done=int(output[-1]))
    before = job.request.done // BATCH
    _, again = job.run(monkeypatch)
    assert again[0] >= before - OPEN * job.segment_batches
    assert is_same_clip(job.result, expected)


@pytest.mark.parametrize("mode", [pytest.param("joining", marks=pytest.mark.long), "joined"])
def test_pipeline_resume_after_kill_at_join_only_joins(
    job: Job, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    expected = undisturbed(job, monkeypatch)
    output = run_and_kill(job.request, mode, 10)
    assert output == [*(str(3 * n) for n in range(1, 9)), "25", "stopped"]
    assert not job.request.target.exists()
    job.request = replace(job.request, done=25)
    assert job.run(monkeypatch)[1] == []
    assert is_same_clip(job.result, expected)
