"""One video job from file to file: read, pad, find the foreground, composite, encode by batches, and join."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from worker.jobs.errors import BadSettings, EngineFailed, EngineLost
from worker.jobs.limits import DEFAULTS, Limits
from worker.jobs.media import publish
from worker.memory import free, measure
from worker.video.decoder import ClipHeader
from worker.video.disk import writing
from worker.video.encoder import RECIPE
from worker.video.failures import failure_of
from worker.video.joiner import join
from worker.video.padding import cut, fill
from worker.video.reader import ClipReader, Frames
from worker.video.request import BatchDone, Canceled, VideoRequest, VideoResult
from worker.video.segments import SegmentFolder
from worker.video.writer import SegmentWriter

if TYPE_CHECKING:  # torch comes in with `load`, after the device has been pinned
    from torch import Tensor

    from worker.video.composite import Compositor
    from worker.video.models import VideoModel

log = logging.getLogger(__name__)


class VideoPipeline:
    """A model kept warm for one clip after another; `load` before `run`.

    Every batch has `batch_size` frames, the last one filled up, so that the device sees one shape a clip.
    What is done becomes durable every `segment_batches` batches.
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
    ) -> None:
        self._weights = weights
        self._device = device
        self._batch_size = batch_size
        self._segment_batches = segment_batches
        self._name = model
        self._limits = limits
        self._model: VideoModel | None = None
        #: Those of the running job. They stay when the device is lost: torch would end the process if it
        #: had to free pinned memory then.
        self._buffers: list[Tensor] = []

    def load(self) -> None:
        """Read the weights and warm up with serving's batch size; BadSettings if the model is not known."""
        from worker.video.models import MODELS

        if self._name not in MODELS:
            raise BadSettings(f"no video model is called {self._name}; there are {', '.join(MODELS)}")
        self._model = MODELS[self._name].load(self._weights, self._device)
        self._model.warm_up(self._batch_size, 720, 1280)

    def run(
        self, request: VideoRequest, *, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        """Do one job, or what earlier runs left of it; the result appears whole or not at all.

        `canceled` is asked before each batch, and once more before the result gets its name. Raises Canceled,
        a JobFailed (BadVideo, DiskFull, EngineFailed, OutOfMemory), or EngineLost: then no job can be done.
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
            if not isinstance(failure, EngineLost):
                self._buffers.clear()
        free(self._device)  # not before `error` and its traceback are gone: they hold on to the tensors
        raise failure

    def close(self) -> None:
        """Let go of the model and of the device memory it held."""
        self._model = None
        free(self._device)

    def _run(
        self, request: VideoRequest, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        began = time.perf_counter()
        with writing():
            folder = SegmentFolder(request.work / f"{RECIPE}-batch{self._batch_size}")
        clip, frames = self._encode(request, folder, on_batch, canceled)
        size = self._join(request, clip, folder, frames, canceled)
        batches = self._batches(frames)
        seconds = time.perf_counter() - began
        padded = batches * self._batch_size - frames
        return VideoResult(frames, clip.width, clip.height, clip.rate, batches, padded, size, seconds)

    def _encode(
        self,
        request: VideoRequest,
        folder: SegmentFolder,
        on_batch: Callable[[BatchDone], None],
        canceled: Callable[[], bool],
    ) -> tuple[ClipHeader, int]:
        """Do the batches that are not kept; the clip's header and number of frames."""
        from worker.video.composite import compositor

        kept = folder.durable(request.done)
        done = kept[-1].end if kept else 0
        with (
            self._reader(request.source, done) as reader,
            SegmentWriter(folder, reader.header, first=done, batches=self._segment_batches) as writer,
        ):
            clip = reader.header
            if folder.is_complete(done):
                return clip, done
            compose = compositor(request.effect, request.background, clip.height, clip.width, self._device)
            first = self._batches(done)
            for batch in reader:
                if canceled():
                    raise Canceled
                if batch.index < first:
                    continue
                start = time.perf_counter()
                with measure(self._device) as meter:
                    filled = fill(batch.frames, batch.valid, request.pad)
                    results = self._composite(batch.frames, batch.valid, compose)
                writer.write(cut(results, batch.valid), batch.pts)
                seconds, done = time.perf_counter() - start, done + batch.valid
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
                publish(partial, request.target)
        finally:
            partial.unlink(missing_ok=True)
        return size

    def _reader(self, source: Path, skip: int) -> ClipReader:
        return ClipReader(source, self._batch_size, skip=skip, limits=self._limits, allocate=self._buffer)

    def _batches(self, frames: int) -> int:
        """How many batches so many frames fill, the last one perhaps in part."""
        return -(-frames // self._batch_size)

    def _composite(self, frames: Frames, valid: int, compose: Compositor) -> Frames:
        """One padded batch (B,H,W,3) through the model and the effect, on the device and back."""
        import torch

        if self._model is None:
            raise EngineFailed("the video pipeline has not been loaded")
        with torch.inference_mode():
            batch = torch.from_numpy(frames).to(self._device, non_blocking=True)
            return compose(batch, self._model(batch, valid)).contiguous().cpu().numpy()

    def _buffer(self, shape: tuple[int, ...]) -> Frames:
        """A batch buffer; pinned for a GPU, which copies from it without the CPU."""
        import torch

        buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=self._on_gpu())
        self._buffers.append(buffer)
        return buffer.numpy()

    def _on_gpu(self) -> bool:
        return self._device.startswith("cuda")
