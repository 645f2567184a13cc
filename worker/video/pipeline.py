"""One video job from file to file: read, pad, find the foreground, composite, encode by batches, and join."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.devices.memory import free, measure
from worker.jobs.errors import ConfigurationError, EngineDied, EngineFailed
from worker.jobs.limits import DEFAULTS, ClipSize, Limits
from worker.video.decoding.decoder import ClipHeader
from worker.video.decoding.reader import ClipReader, Frames
from worker.video.encoding.encoder import RECIPE
from worker.video.encoding.joiner import join
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.write_errors import writing
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.padding import cut, fill
from worker.video.inference.torch_errors import failure_of
from worker.video.request import BatchDone, Canceled, VideoRequest, VideoResult

if TYPE_CHECKING:  # torch comes in with `load`, after the device has been pinned
    from worker.video.inference.model_runner import ModelRunner

log = logging.getLogger(__name__)


class VideoPipeline:
    """A model kept warm for one clip after another; `load` before `run`, both in one thread.

    Every batch has `batch_size` frames, the last one filled up, so that the device sees one shape a clip;
    without `pad` it stays short. What is done becomes durable every `segment_batches` batches. A GPU is warm
    for clips of `sizes` after `load`; for another size, and its effect, it warms up before the first batch.
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
        self._stage: ModelRunner | None = None

    def load(self) -> None:
        """Read the weights and warm up; ConfigurationError if the model is unknown or cannot be compiled."""
        from worker.video.inference.model_runner import ModelRunner
        from worker.video.models import MODELS

        if self._name not in MODELS:
            raise ConfigurationError(f"no video model is called {self._name}; there are {', '.join(MODELS)}")
        model = MODELS[self._name].load(self._weights, self._device)
        stage = ModelRunner(model, self._device, self._batch_size)
        try:
            if self._compiled:
                model.compile()
            stage.warm_up(self._sizes)
        except RuntimeError as error:  # torch's compiler raises this, whatever it lacks
            if not self._compiled or failure_of(error):
                raise
            reason = str(error).partition("\n")[0]
            raise ConfigurationError(f"torch cannot compile the video model ({reason})") from error
        self._stage = stage

    def run(
        self, request: VideoRequest, *, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        """Do one job, or what earlier runs left of it; the result appears whole or not at all.

        `canceled` is asked before each batch, and once more before the result gets its name. Raises Canceled,
        a JobFailed (BadVideo, DiskFull, EngineFailed, OutOfMemory), or EngineDied: then no job can be done.
        """
        failure = None
        try:
            return self._run(request, on_batch, canceled)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            log.warning("a video job ends: %s", failure, exc_info=True)
        finally:
            if self._stage and not isinstance(failure, EngineDied):
                self._stage.clear()
        free(self._device)  # not before `error` and its traceback are gone: they hold on to the tensors
        raise failure

    def close(self) -> None:
        """Let go of the model and of the device memory it held."""
        self._stage = None
        free(self._device)

    def _run(
        self, request: VideoRequest, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        began = time.perf_counter()
        with writing():
            folder = SegmentFolder(request.work / f"{RECIPE}-batch{self._batch_size}", request.publish)
        clip, frames = self._encode(request, folder, on_batch, canceled)
        size = self._join(request, clip, folder, frames, canceled)
        batches = self._batches(frames)
        seconds = time.perf_counter() - began
        padded = batches * self._batch_size - frames if self._pad else 0
        return VideoResult(frames, clip.width, clip.height, clip.rate, batches, padded, size, seconds)

    def _encode(
        self,
        request: VideoRequest,
        folder: SegmentFolder,
        on_batch: Callable[[BatchDone], None],
        canceled: Callable[[], bool],
    ) -> tuple[ClipHeader, int]:
        """Do the batches that are not kept; the clip's header and number of frames."""
        if self._stage is None:
            raise EngineFailed("the video pipeline has not been loaded")
        kept = folder.durable(request.done)
        done = kept[-1].end if kept else 0
        with (
            self._reader(request.source, done, self._stage.buffer) as reader,
            SegmentWriter(folder, reader.header, first=done, batches=self._segment_batches) as writer,
        ):
            clip = reader.header
            if folder.is_complete(done):
                return clip, done
            scene = self._stage.scene(request.effect, request.background, clip.height, clip.width)
            first = self._batches(done)
            for batch in reader:
                if canceled():
                    raise Canceled
                if batch.index < first:
                    continue
                filled = fill(batch.frames, batch.valid, request.pad) if self._pad else 0
                with measure(self._device) as meter:
                    start = time.perf_counter()
                    results = scene(batch.frames[: batch.valid + filled], batch.valid)
                    seconds = time.perf_counter() - start
                done += batch.valid
                writer.write(cut(results, batch.valid), batch.pts)
                on_batch(BatchDone(batch.index, batch.valid, filled, done, seconds, meter.report))
            writer.finish()
        return clip, done

    def _join(
        self,
        request: VideoRequest,
        clip: ClipHeader,
        folder: SegmentFolder,
        frames: int,
        canceled: Callable[[], bool],
    ) -> int:
        """Write the result, of so many frames, from the segments; its size in bytes."""
        partial = folder.partial()
        try:
            with writing():
                join(request.source, clip, folder.durable(frames), frames, partial)
                size = partial.stat().st_size
                if canceled():
                    raise Canceled
                request.publish(partial, request.target)
        finally:
            partial.unlink(missing_ok=True)
        return size

    def _reader(self, source: Path, skip: int, allocate: Callable[[tuple[int, ...]], Frames]) -> ClipReader:
        return ClipReader(source, self._batch_size, skip=skip, limits=self._limits, allocate=allocate)

    def _batches(self, frames: int) -> int:
        """How many batches so many frames fill, the last one perhaps in part."""
        return -(-frames // self._batch_size)
