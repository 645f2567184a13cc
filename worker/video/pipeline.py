"""The pipeline of a video job: read, pad, find the foreground, composite, encode in batches, and join."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from worker.devices.memory import free, measure
from worker.jobs.errors import EngineDied, EngineFailed
from worker.jobs.limits import DEFAULTS, ClipSize, Limits
from worker.video.clip_tasks import ClipTasks
from worker.video.decoding.header import ClipEnd
from worker.video.decoding.image import read_background
from worker.video.decoding.reader import ClipReader
from worker.video.encoding.encoder import RECIPE
from worker.video.encoding.result_file import join_segments
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.write_errors import map_write_errors
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.padding import cut, fill
from worker.video.inference.torch_errors import classify_torch_error
from worker.video.request import BatchDone, PipelineCanceled, VideoRequest, VideoResult
from worker.video.sandbox.sandboxes import Sandboxes
from worker.video.tracks.report import TracksReport

if TYPE_CHECKING:  # `load` imports torch, after the device is pinned
    from worker.video.inference.model_runner import ModelRunner

__all__ = ["VideoPipeline"]

log = logging.getLogger(__name__)


class VideoPipeline:
    """A video model that stays loaded, and the steps around it from clip to result.

    Call `load` before `run_clip`, both in the same thread.

    - `batch_size`: frames per batch. With `pad`, the last batch is filled up to it, so the device sees one
      shape per clip. Only `bench.video` turns `pad` off, to measure what it saves.
    - `segment_batches`: batches per segment. Each finished segment is durable.
    - `sizes`: clip sizes for which a GPU is warmed up by `load`. It warms up for another size and its effect
      before the first batch of such a clip.
    - `compiled`: whether torch compiles the model.
    - `warm_up_per_clip`: whether blank batches run before a clip; by default on a GPU only.
    - `segment_writer`: the class that receives the results of each batch.
    """

    def __init__(
        self,
        weights: Path,
        *,
        device: str = "cpu",
        batch_size: int = 16,
        segment_batches: int = 4,
        model: str = "selfie_segmentation",
        limits: Limits = DEFAULTS,
        sizes: Sequence[ClipSize] = (),
        compiled: bool = False,
        pad: bool = True,
        warm_up_per_clip: bool | None = None,
        segment_writer: type[SegmentWriter] = SegmentWriter,
    ) -> None:
        self._weights = weights
        self._device = device
        self._batch_size = batch_size
        self._segment_batches = segment_batches
        self._name = model
        self._limits = limits
        self._sizes = sizes
        self._compiled = compiled
        self._pad = pad
        self._warm_up_per_clip = warm_up_per_clip
        self._segment_writer = segment_writer
        self._sandboxes = Sandboxes(ClipTasks.__module__)
        self._model_runner: ModelRunner | None = None

    def load(self) -> None:
        """Load the model and warm it up, and start the process that reads clips.

        Raises `ConfigurationError` if the model is unknown or cannot be compiled, and `ModelMissing` if the
        weights are not this model's.
        """
        from worker.video.inference.model_runner import load_model_runner

        self._model_runner = load_model_runner(
            self._name,
            self._weights,
            self._device,
            self._batch_size,
            sizes=self._sizes,
            compiled=self._compiled,
            warm_up_per_clip=self._warm_up_per_clip,
        )
        self._sandboxes.start()

    def run_clip(
        self, request: VideoRequest, *, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        """Process the clip of `request`, except for segments that earlier runs have finished.

        The result appears complete or not at all. The pipeline calls `on_batch` after each batch. It calls
        `canceled` before each batch, before the result gets its name, and every second while it waits for the
        sandbox.

        Raises `PipelineCanceled` if `canceled` returns True. Raises a `JobFailed` (`BadVideo`, `DiskFull`,
        `EngineFailed`, `OutOfMemory`) if this clip fails, and `EngineDied` if no clip can run any more.
        """
        failure = None
        try:
            return self._run_clip(request, on_batch, canceled)
        except Exception as error:
            failure = classify_torch_error(error)
            if failure is None:
                raise
            log.warning("video job ends: %s", failure, exc_info=True)
        finally:
            if self._model_runner and not isinstance(failure, EngineDied):
                self._model_runner.release_buffers()
        free(self._device)  # here, because `error` and its traceback, which refer to tensors, are gone now
        raise failure

    def close(self) -> None:
        """Release the model and its device memory, and end the process that reads clips."""
        self._model_runner = None
        free(self._device)
        self._sandboxes.stop()

    def _run_clip(
        self, request: VideoRequest, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        if self._model_runner is None:
            raise EngineFailed("the video pipeline has not been loaded")
        began = time.perf_counter()

        def check() -> None:
            if canceled():
                raise PipelineCanceled

        with map_write_errors():
            folder = SegmentFolder(request.work / f"{RECIPE}-batch{self._batch_size}", request.publish)
        with self._sandboxes.sandbox(self._limits, check) as sandbox:
            done = max((segment.end for segment in folder.durable(request.done)), default=0)
            reader = ClipReader(
                sandbox,
                request.source,
                self._batch_size,
                options=request.options,
                skip=done,
                allocate=self._model_runner.buffer,
            )
            with folder.scratch() as tracks:
                report = TracksReport.from_json(sandbox.call("tracks", target=tracks))
                frames, end = self._encode_segments(
                    request, reader, self._model_runner, folder, done, on_batch
                )
                size = join_segments(sandbox, folder, frames, end.tick, request.publish, request.target)
        clip, batches = reader.header, ceil(frames / self._batch_size)
        return VideoResult(
            frames=frames,
            width=clip.width,
            height=clip.height,
            rate=clip.rate,
            duration_s=float((end.tick - clip.start) * clip.time_base),
            batches=batches,
            padded=batches * self._batch_size - frames if self._pad else 0,
            concealed=end.concealed,
            bytes=size,
            seconds=time.perf_counter() - began,
            tracks=report,
        )

    def _encode_segments(
        self,
        request: VideoRequest,
        reader: ClipReader,
        runner: ModelRunner,
        folder: SegmentFolder,
        done: int,
        on_batch: Callable[[BatchDone], None],
    ) -> tuple[int, ClipEnd]:
        """Process the frames from number `done` on. Return the number of frames, and the clip's end."""
        clip, sandbox = reader.header, reader.sandbox
        if (end := folder.end(done)) is not None:
            return done, end
        background = read_background(sandbox, request.background)
        batches = iter(reader)
        transform = runner.prepare(request.effect, background, clip.height, clip.width)
        with self._segment_writer(folder, clip, first=done, batches=self._segment_batches) as writer:
            for batch in batches:
                sandbox.check()
                if batch.index * self._batch_size < done:
                    continue
                filled = fill(batch.frames, batch.valid, request.pad) if self._pad else 0
                with measure(self._device) as meter:
                    start = time.perf_counter()
                    results = transform(batch.frames[: batch.valid + filled], batch.valid)
                    seconds = time.perf_counter() - start
                done += batch.valid
                writer.write(cut(results, batch.valid), batch.pts)
                on_batch(
                    BatchDone(batch.index, batch.valid, filled, done, clip.frames, seconds, meter.report)
                )
            writer.finish(reader.end)
        return done, reader.end
