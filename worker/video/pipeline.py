"""The pipeline of a video job: read, pad, find the foreground, composite, encode in batches, and join."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.devices.memory import free, measure
from worker.jobs.errors import EngineDied, EngineFailed
from worker.jobs.limits import DEFAULTS, ClipSize, Limits
from worker.video.decoding.header import ClipHeader
from worker.video.decoding.reader import ClipReader, Frames
from worker.video.encoding.encoder import RECIPE
from worker.video.encoding.joiner import join
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.write_errors import map_write_errors
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.padding import cut, fill
from worker.video.inference.torch_errors import classify_torch_error
from worker.video.request import BatchDone, PipelineCanceled, VideoRequest, VideoResult

if TYPE_CHECKING:  # `load` imports torch, after the device is pinned
    from worker.video.inference.model_runner import ModelRunner

__all__ = ["VideoPipeline"]

log = logging.getLogger(__name__)


class VideoPipeline:
    """A video model that stays loaded, and the steps around it from clip to result.

    Call `load` before `run_clip`, both in the same thread.

    - `batch_size`: frames per batch. With `pad`, the last batch is filled up to it, so the device sees one
      shape per clip. Without `pad`, the last batch stays short.
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
        self._model_runner: ModelRunner | None = None

    def load(self) -> None:
        """Load the model and warm it up.

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

    def run_clip(
        self, request: VideoRequest, *, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        """Process the clip of `request`, except for segments that earlier runs have finished.

        The result appears complete or not at all. The pipeline calls `on_batch` after each batch. It calls
        `canceled` before each batch, and once more before the result gets its name.

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
        """Release the model and its device memory."""
        self._model_runner = None
        free(self._device)

    def _run_clip(
        self, request: VideoRequest, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        began = time.perf_counter()
        with map_write_errors():
            folder = SegmentFolder(request.work / f"{RECIPE}-batch{self._batch_size}", request.publish)
        clip, frames = self._encode_segments(request, folder, on_batch, canceled)
        size = self._join_segments(request, clip, folder, frames, canceled)
        batches, seconds = self._batches(frames), time.perf_counter() - began
        padded = batches * self._batch_size - frames if self._pad else 0
        return VideoResult(frames, clip.width, clip.height, clip.rate, batches, padded, size, seconds)

    def _encode_segments(
        self,
        request: VideoRequest,
        folder: SegmentFolder,
        on_batch: Callable[[BatchDone], None],
        canceled: Callable[[], bool],
    ) -> tuple[ClipHeader, int]:
        """Process the batches that no segment holds. Return the clip's header and number of frames."""
        if (runner := self._model_runner) is None:
            raise EngineFailed("the video pipeline has not been loaded")
        kept = folder.durable(request.done)
        done = kept[-1].end if kept else 0
        with (
            self._reader(request.source, done, runner.buffer) as reader,
            self._segment_writer(folder, reader.header, first=done, batches=self._segment_batches) as writer,
        ):
            clip = reader.header
            if folder.is_complete(done):
                return clip, done
            transform = runner.prepare(request.effect, request.background, clip.height, clip.width)
            first = self._batches(done)
            for batch in reader:
                if canceled():
                    raise PipelineCanceled
                if batch.index < first:
                    continue
                filled = fill(batch.frames, batch.valid, request.pad) if self._pad else 0
                with measure(self._device) as meter:
                    start = time.perf_counter()
                    results = transform(batch.frames[: batch.valid + filled], batch.valid)
                    seconds = time.perf_counter() - start
                done += batch.valid
                writer.write(cut(results, batch.valid), batch.pts)
                on_batch(BatchDone(batch.index, batch.valid, filled, done, seconds, meter.report))
            writer.finish()
        return clip, done

    def _join_segments(
        self,
        request: VideoRequest,
        clip: ClipHeader,
        folder: SegmentFolder,
        frames: int,
        canceled: Callable[[], bool],
    ) -> int:
        """Join the segments, which hold `frames` frames, into the result. Return its size in bytes."""
        partial = folder.partial()
        try:
            with map_write_errors():
                join(request.source, clip, folder.durable(frames), frames, partial)
                size = partial.stat().st_size
                if canceled():
                    raise PipelineCanceled
                request.publish(partial, request.target)
        finally:
            partial.unlink(missing_ok=True)
        return size

    def _reader(self, source: Path, skip: int, allocate: Callable[[tuple[int, ...]], Frames]) -> ClipReader:
        return ClipReader(source, self._batch_size, skip=skip, limits=self._limits, allocate=allocate)

    def _batches(self, frames: int) -> int:
        """Return the number of batches for `frames` frames; the last one may be short."""
        return -(-frames // self._batch_size)
