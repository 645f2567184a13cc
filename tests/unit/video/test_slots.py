"""Two clips at once in one worker: neither waits for the other's encoder, or changes or ends the other."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.job_ids import A, B
from tests.support.stack import eventually
from tests.support.video.clips import Picture, gradient, make_clip
from tests.support.video.frame_models import Trail, TrailOptions, TrailPass
from tests.support.video.jobs import WAIT_S, Hold, VideoHarness, video_harness
from worker.jobs.errors import ModelFailed, OutOfMemory
from worker.jobs.ledger.ledger import Ledger
from worker.video import segment_run
from worker.video.encoding.encoder import Encoder
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference import device_thread
from worker.video.model import Clip, Pass
from worker.video.models.find import FoundModel
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, PipelineCanceled, VideoRequest, VideoResult

#: The widths of the two clips, which stand for them.
ONE, OTHER = 64, 96
FRAMES, BATCH, BATCHES = 11, 2, 6


class WatchedTrail(Trail):
    """A model with state that calls `see` with the width of each batch, except for blank ones."""

    see: Callable[[int], None] = staticmethod(lambda width: None)

    def start(self, clip: Clip, options: TrailOptions) -> Pass:
        return WatchedPass(options.keep)


class WatchedPass(TrailPass):
    """A pass of `WatchedTrail`."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        if valid:
            WatchedTrail.see(frames.shape[2])
        return super().__call__(frames, valid)


class TwoClips:
    """A pipeline, which runs blank batches before each clip, and two clips for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clips = {
            width: make_clip(folder / f"{width}.mp4", [gradient(n, width) for n in range(FRAMES)])
            for width in (ONE, OTHER)
        }
        written = self._written = dict[str, list[Picture]]()

        class RecordingWriter(SegmentWriter):
            def write(self, results: Picture, *arguments: Any) -> None:
                written.setdefault(threading.current_thread().name, []).append(results.copy())
                super().write(results, *arguments)

        model = FoundModel("stub", cast(Any, WatchedTrail), None, "1")
        self.pipeline = VideoPipeline(
            lambda: model,
            batch_size=BATCH,
            segment_batches=2,
            warm_up_per_clip=True,
            segment_writer=RecordingWriter,
        )
        self.pipeline.load()
        self._threads = ThreadPoolExecutor(2)

    def start(
        self,
        width: int,
        name: str,
        on_batch: Callable[[BatchDone], None] = lambda batch: None,
        canceled: Callable[[], bool] = lambda: False,
    ) -> "Future[VideoResult]":
        """Run a clip in a thread of its own."""
        target, work = (self._folder / f"{name}.{suffix}" for suffix in ("mp4", "work"))
        request = VideoRequest(self._clips[width], target, work)

        def run() -> VideoResult:
            threading.current_thread().name = name
            return self.pipeline.run_clip(request, on_batch=on_batch, canceled=canceled)

        return self._threads.submit(run)

    def pictures(self, name: str) -> Picture:
        """Return what the pipeline has made of a clip, before the encoder's losses."""
        return np.concatenate(self._written[name])

    def close(self) -> None:
        self._threads.shutdown()
        self.pipeline.close()


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoClips]:
    monkeypatch.setattr(device_thread, "WAIT_S", 0.05)
    clips = TwoClips(tmp_path)
    yield clips
    clips.close()


def test_pipeline_results_of_two_clips_at_once_are_those_of_each_alone(clips: TwoClips) -> None:
    """Each clip waits for the other one after each batch, so their batches take turns in the model."""
    for width in (ONE, OTHER):
        clips.start(width, f"alone{width}").result(WAIT_S)
    turns, step = list[int](), threading.Barrier(2)

    def on_batch(batch: BatchDone) -> None:
        turns.append(batch.index)
        step.wait(WAIT_S)

    both = [clips.start(width, f"both{width}", on_batch) for width in (ONE, OTHER)]
    assert [future.result(WAIT_S).frames for future in both] == [FRAMES] * 2
    assert turns == [index for index in range(BATCHES) for _ in both]
    for width in (ONE, OTHER):
        assert (clips.pictures(f"both{width}") == clips.pictures(f"alone{width}")).all()


def test_pipeline_encodes_one_clip_while_the_model_has_a_batch_of_another(
    clips: TwoClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, in_model, encoded = (threading.Event() for _ in range(3))

    class WaitingEncoder(Encoder):
        """An encoder that encodes the first clip only while the other one is in the model."""

        def encode(self, frames: Picture, pts: Sequence[int]) -> None:
            waits = frames.shape[2] == ONE
            assert not waits or in_model.wait(WAIT_S)
            super().encode(frames, pts)
            if waits:
                encoded.set()

    def see(width: int) -> None:
        if width == OTHER:
            in_model.set()
            assert encoded.wait(WAIT_S)

    monkeypatch.setattr(segment_run, "Encoder", WaitingEncoder)
    monkeypatch.setattr(WatchedTrail, "see", see)
    one = clips.start(ONE, "one", lambda batch: first.set())
    assert first.wait(WAIT_S)
    other = clips.start(OTHER, "other")
    assert [future.result(WAIT_S).frames for future in (one, other)] == [FRAMES] * 2


def run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def fail() -> None:
    raise ValueError("x")


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(run_out_of_memory, OutOfMemory), (fail, ModelFailed), (lambda: None, PipelineCanceled)],
    ids=["out of memory", "model failed", "canceled"],
)
def test_pipeline_end_of_one_clip_leaves_the_other_exact(
    clips: TwoClips, monkeypatch: pytest.MonkeyPatch, failure: Callable[[], None], expected: type[Exception]
) -> None:
    clips.start(ONE, "alone").result(WAIT_S)
    ended, half = threading.Event(), threading.Event()

    def on_batch(batch: BatchDone) -> None:
        if batch.index == BATCHES // 2:
            half.set()
            assert ended.wait(WAIT_S)

    def see(width: int) -> None:
        if width == OTHER:
            failure()

    def canceled() -> bool:
        return expected is PipelineCanceled

    one = clips.start(ONE, "one", on_batch)
    assert half.wait(WAIT_S)
    monkeypatch.setattr(WatchedTrail, "see", see)
    with pytest.raises(expected):
        clips.start(OTHER, "other", canceled=canceled).result(WAIT_S)
    ended.set()
    assert one.result(WAIT_S).frames == FRAMES
    assert (clips.pictures("one") == clips.pictures("alone")).all()


@pytest.fixture
def harness(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoHarness]:
    monkeypatch.setattr(device_thread, "WAIT_S", 0.05)
    with video_harness(ledger, monkeypatch) as harness:
        yield harness


def test_video_runner_cancels_clip_that_waits_for_a_batch_that_hangs(harness: VideoHarness) -> None:
    worker, hold = harness.worker(slots=2), Hold(1)
    harness.model.on_call = hold
    files = harness.submit(A), harness.submit(B)
    threads = [harness.start(harness.claim(A), worker)]
    assert hold.reached.wait(WAIT_S)
    threads.append(harness.start(harness.claim(B), worker))
    harness.ledger.cancel(B)
    threads[1].join(WAIT_S)
    assert harness.ledger.get(B).state == "canceled"
    assert not files[1].work.exists()
    hold.go_on.set()
    threads[0].join(WAIT_S)
    assert (harness.ledger.get(A).state, harness.broken) == ("succeeded", [])
    assert files[0].result.exists()


def test_video_runner_fails_clip_while_a_batch_of_another_hangs(harness: VideoHarness) -> None:
    worker, hold = harness.worker(slots=2), Hold(2)

    def on_call(call: int) -> None:
        hold(call)
        if call == 1:
            raise ValueError("x")

    harness.model.on_call = on_call
    for job_id in (A, B):
        harness.submit(job_id)
    threads = [harness.start(harness.claim(job_id), worker) for job_id in (A, B)]
    assert hold.reached.wait(WAIT_S)

    def states() -> list[str]:
        return sorted(harness.ledger.get(job_id).state for job_id in (A, B))

    eventually(lambda: states() == ["failed", "running"], "a failed job", WAIT_S)
    hold.go_on.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert states() == ["failed", "succeeded"]


def test_video_runner_lost_device_keeps_jobs_and_buffers_of_both_clips(harness: VideoHarness) -> None:
    """torch would abort the process if it had to free the pinned memory of a lost device."""
    worker = harness.worker(slots=2)

    def on_call(call: int) -> None:
        if call == 3:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    harness.model.on_call = on_call
    for job_id in (A, B):
        harness.submit(job_id)
    runs = [harness.claim(job_id) for job_id in (A, B)]
    threads = [harness.start(run, worker) for run in runs]
    eventually(lambda: len(harness.broken) == 2, "the errors of both clips", WAIT_S)
    assert {harness.ledger.get(job_id).state for job_id in (A, B)} == {"running"}
    for run in runs:
        run.abandon()  # as the lane does when its worker drains
    for thread in threads:
        thread.join(WAIT_S)
    harness.runners.remove(worker)
    worker.stop()
    kept = worker._pipeline._model_runner
    assert kept is not None
    assert len(kept._buffers) == 2
