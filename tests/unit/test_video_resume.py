"""A video whose run is cut short, however, goes on from its last segment and ends as if nothing had been."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.support.clips import (
    Clip,
    ScriptedModel,
    complaints,
    gradient,
    make_clip,
    read_clip,
    same,
    scripted,
    with_sound,
)
from worker.video import pipeline
from worker.video.decoding.reader import ClipReader
from worker.video.encoding.audio import AudioCopy
from worker.video.request import BatchDone, Canceled, VideoRequest, VideoResult

#: 25 frames make 9 batches, the last of one frame
BATCH, BATCHES = 3, 9


class Killed(BaseException):
    """What no part of the pipeline catches."""


@dataclass
class Job:
    """A clip that is run again and again, by pipelines that share nothing but the folder."""

    request: VideoRequest
    segment_batches: int = 2
    batch_size: int = BATCH

    def run(
        self,
        monkeypatch: pytest.MonkeyPatch,
        on_batch: Callable[[BatchDone], None] = lambda batch: None,
        canceled: Callable[[], bool] = lambda: False,
        model: ScriptedModel | None = None,
    ) -> tuple[VideoResult, list[int]]:
        """Run it; the result, and the numbers of the batches that were done."""
        done: list[int] = []

        def report(batch: BatchDone) -> None:
            done.append(batch.index)
            assert batch.done == min(25, (batch.index + 1) * self.batch_size)
            self.request = replace(self.request, done=batch.done)
            on_batch(batch)

        model = model or ScriptedModel()
        with scripted(monkeypatch, model, self.batch_size, self.segment_batches) as video:
            return video.run(self.request, on_batch=report, canceled=canceled), done

    @property
    def result(self) -> Clip:
        assert complaints(self.request.target) == []
        return read_clip(self.request.target)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = with_sound(tmp_path / "in.mp4", "aac", Fraction(1, 5))
    return Job(VideoRequest(source, tmp_path / "out.mp4", tmp_path / "work", "matte"))


def undisturbed(job: Job, monkeypatch: pytest.MonkeyPatch) -> Clip:
    """The result of the same job, done in one go, elsewhere."""
    folder = job.request.work.parent / "undisturbed"
    folder.mkdir()
    other = replace(job.request, work=folder, target=folder / "out.mp4", done=0)
    alone = Job(other, job.segment_batches, job.batch_size)
    alone.run(monkeypatch)
    source, result = read_clip(job.request.source), alone.result
    assert [t - result.times[0] for t in result.times] == [t - source.times[0] for t in source.times]
    assert [sound for _, sound in result.audio] == [sound for _, sound in source.audio]
    return result


def kill_after(index: int) -> Callable[[BatchDone], None]:
    def on_batch(batch: BatchDone) -> None:
        if batch.index == index:
            raise Killed

    return on_batch


@pytest.mark.parametrize("segment_batches", [1, 2, 4, 9, 100])
def test_an_end_after_any_batch_costs_no_more_than_a_segment(
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
        assert same(job.result, expected)
        job.request.target.unlink()


def test_an_end_after_every_single_batch(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """With segments of one batch each run gets at least one batch further."""
    job.segment_batches = 1
    expected, runs = undisturbed(job, monkeypatch), 0

    def on_batch(batch: BatchDone) -> None:
        if len(told) == 2:
            raise Killed
        told.append(batch.index)

    while not job.request.target.exists():
        told: list[int] = []
        runs += 1
        try:
            job.run(monkeypatch, on_batch)
        except Killed:
            assert runs < BATCHES
    assert runs > 3
    assert same(job.result, expected)


def test_what_was_not_reported_is_done_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the log has every batch, although a segment may be durable before its batches are in it."""
    with pytest.raises(Killed):
        job.run(monkeypatch, kill_after(7))
    job.request = replace(job.request, done=9)
    assert job.run(monkeypatch)[1] == [2, 3, 4, 5, 6, 7, 8]


def test_a_run_that_ended_while_it_joined_is_only_joined_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = undisturbed(job, monkeypatch)

    def mux_until(self: AudioCopy, end: Fraction | None, shift: Fraction) -> None:
        if end is not None and end > Fraction(1, 2):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(AudioCopy, "mux_until", mux_until)
        with pytest.raises(Killed):
            job.run(monkeypatch)
    assert not job.request.target.exists()
    model = ScriptedModel()
    with monkeypatch.context() as patch:
        patch.setattr(ClipReader, "__iter__", None)
        result, done = job.run(monkeypatch, model=model)
    assert (done, model.calls) == ([], 0)
    assert (result.frames, result.batches, result.padded) == (25, 9, 2)
    assert same(job.result, expected)


def test_a_run_that_lost_its_job_while_it_joined_leaves_what_is_there(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    job.request.target.write_bytes(b"another's")

    def canceled() -> bool:
        nonlocal asked
        asked += 1
        return asked == BATCHES + 1

    with pytest.raises(Canceled):
        job.run(monkeypatch, canceled=canceled)
    assert job.request.target.read_bytes() == b"another's"
    assert not list(job.request.work.rglob("*.partial"))
    assert job.run(monkeypatch)[1] == []


def test_a_cancel_is_heard_while_frames_are_skipped(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Killed):
        job.run(monkeypatch, kill_after(7))
    model = ScriptedModel()
    with pytest.raises(Canceled):
        job.run(monkeypatch, canceled=lambda: True, model=model)
    assert model.calls == 0


@pytest.mark.parametrize("change", ["encoder", "batch size"])
def test_segments_made_in_another_way_do_not_count(
    job: Job, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with pytest.raises(Killed):
        job.run(monkeypatch, kill_after(7))
    if change == "encoder":
        monkeypatch.setattr(pipeline, "RECIPE", "av99")
    else:
        job.batch_size = 5
    result, done = job.run(monkeypatch)
    assert done == list(range(result.batches))
    assert len(job.result.times) == 25


@pytest.mark.parametrize(
    ("frames", "batch_size", "segment_batches"),
    [(1, 1, 1), (1, 4, 2), (7, 1, 1), (8, 4, 1), (16, 4, 2), (17, 4, 2), (15, 4, 2)],
)
def test_any_number_of_frames_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, batch_size: int, segment_batches: int
) -> None:
    """At times of their own, with pictures still enough for B-frames."""
    pts = [40 * number + 7 * (number % 3) for number in range(frames)]
    pictures = [gradient(number // 6) for number in range(frames)]
    source = make_clip(tmp_path / "in.mkv", pictures, pts=pts, time_base=Fraction(1, 1000))
    request = VideoRequest(source, tmp_path / "out.mp4", tmp_path / "work", "matte")
    with scripted(monkeypatch, ScriptedModel(), batch_size, segment_batches) as video:
        for runs in range(2):
            request = replace(request, done=runs * frames)
            result = video.run(request, on_batch=lambda _: None, canceled=lambda: False)
            assert (result.frames, result.batches) == (frames, -(-frames // batch_size))
            assert result.padded == -frames % batch_size
            assert read_clip(request.target).times == [Fraction(t, 1000) for t in pts]
            assert complaints(request.target) == []


def test_two_runs_at_once_in_one_folder_both_end_well(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has lost the job, and does not know it."""
    expected = undisturbed(job, monkeypatch)
    in_step = threading.Barrier(2)
    model = ScriptedModel()
    results: list[VideoResult] = []
    with scripted(monkeypatch, model, BATCH, 2) as video:

        def on_batch(batch: BatchDone) -> None:
            in_step.wait(20)

        def work(target: Path) -> None:
            request = replace(job.request, target=target)
            results.append(video.run(request, on_batch=on_batch, canceled=lambda: False))

        targets = [job.request.target, job.request.target.with_name("other.mp4")]
        threads = [threading.Thread(target=work, args=(target,)) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [result.batches for result in results] == [9, 9]
    assert model.calls == 18
    for target in targets:
        assert same(read_clip(target), expected)


CHILD = """
import sys
from fractions import Fraction
from pathlib import Path
from tests.support.clips import ScriptedModel
from worker.video.encoding import joiner
from worker.video.models import MODELS
from worker.video.pipeline import VideoPipeline
from worker.video.request import VideoRequest

source, target, work, done, mode = sys.argv[1:]
MODELS["scripted"] = ScriptedModel()
video = VideoPipeline(Path(), batch_size=3, segment_batches=2, model="scripted")
video.load()
asked = 0

def stop():
    print("stopped", flush=True)
    sys.stdin.read()

class Stopping(joiner.AudioCopy):
    def mux_until(self, end, shift):
        if end is not None and end > Fraction(1, 2):
            stop()

if mode == "joining":
    joiner.AudioCopy = Stopping

def canceled():
    global asked
    asked += 1
    if mode == "joined" and asked == 10:
        stop()
    return False

request = VideoRequest(Path(source), Path(target), Path(work), "matte", done=int(done))
video.run(request, on_batch=lambda batch: print(batch.done, flush=True), canceled=canceled)
"""


def run_and_kill(request: VideoRequest, mode: str, lines: int) -> Sequence[str]:
    """Run it in a process that is killed once it has said so many lines; these lines."""
    paths = map(str, (request.source, request.target, request.work, request.done, mode))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        said = [line.strip() for _, line in zip(range(lines), child.stdout, strict=False)]
        child.kill()
    return said


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_worker_costs_no_more_than_a_segment(
    job: Job, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    expected = undisturbed(job, monkeypatch)
    for _ in range(2):
        said = run_and_kill(job.request, "free", rng.randint(1, 5))
        job.request = replace(job.request, done=int(said[-1]))
    before = job.request.done // BATCH
    _, again = job.run(monkeypatch)
    assert again[0] >= before - job.segment_batches
    assert same(job.result, expected)


@pytest.mark.parametrize("mode", ["joining", "joined"])
def test_a_worker_killed_at_the_join_leaves_only_the_join(
    job: Job, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    expected = undisturbed(job, monkeypatch)
    said = run_and_kill(job.request, mode, 10)
    assert said == [*(str(3 * n) for n in range(1, 9)), "25", "stopped"]
    assert not job.request.target.exists()
    job.request = replace(job.request, done=25)
    assert job.run(monkeypatch)[1] == []
    assert same(job.result, expected)
