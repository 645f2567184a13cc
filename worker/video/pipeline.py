"""One video job from file to file: read, pad, find the foreground, composite, write, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from worker.jobs.clips import MAX_PIXELS
from worker.jobs.errors import BadSettings, EngineFailed
from worker.memory import MemoryReport, measure
from worker.video.padding import Pad, cut, fill
from worker.video.reader import ClipReader, Frames
from worker.video.writer import ClipWriter

if TYPE_CHECKING:  # torch comes in with `load`, after the device has been pinned
    from worker.video.composite import Compositor, Effect
    from worker.video.models import VideoModel


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A clip, where the result goes, and what to do: the background is an RGB colour or an image file."""

    source: Path
    target: Path
    effect: Effect
    background: tuple[int, int, int] | Path = (0, 255, 0)
    pad: Pad = "last"


@dataclass(frozen=True, slots=True)
class BatchDone:
    """One batch went through the model: `frames` real ones, filled up with `padded` others."""

    index: int
    frames: int
    padded: int
    seconds: float
    memory: MemoryReport


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What was written: `rate` in frames a second, `bytes` the file's size; `padded` frames are not in it."""

    frames: int
    width: int
    height: int
    rate: Fraction
    batches: int
    padded: int
    bytes: int
    seconds: float


class Canceled(Exception):
    """`canceled()` turned true, and nothing was written."""


class VideoPipeline:
    """A model kept warm for one clip after another; `load` before `run`.

    Every batch has `batch_size` frames, the last one filled up, so that the device sees one shape a clip.
    """

    def __init__(
        self,
        weights: Path,
        *,
        device: str = "cpu",
        batch_size: int = 16,
        model: str = "selfie_segmentation",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._weights = weights
        self._device = device
        self._batch_size = batch_size
        self._name = model
        self._max_pixels = max_pixels
        self._model: VideoModel | None = None

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
        """Do one job; on Canceled, BadVideo (clip or background) or EngineFailed no file is left behind."""
        from worker.video.composite import compositor

        began = time.perf_counter()
        frames = padded = batches = 0
        with (
            ClipReader(
                request.source, self._batch_size, max_pixels=self._max_pixels, allocate=self._buffer
            ) as reader,
            ClipWriter(request.source, request.target, reader.header) as writer,
        ):
            clip = reader.header
            compose = compositor(request.effect, request.background, clip.height, clip.width, self._device)
            for batch in reader:
                if canceled():
                    raise Canceled
                start = time.perf_counter()
                with measure(self._device) as meter:
                    filled = fill(batch.frames, batch.valid, request.pad)
                    results = self._composite(batch.frames, batch.valid, compose)
                writer.write(cut(results, batch.valid), batch.pts)
                seconds = time.perf_counter() - start
                on_batch(BatchDone(batch.index, batch.valid, filled, seconds, meter.report))
                frames, padded, batches = frames + batch.valid, padded + filled, batches + 1
            size = writer.commit()
        seconds = time.perf_counter() - began
        return VideoResult(frames, clip.width, clip.height, clip.rate, batches, padded, size, seconds)

    def close(self) -> None:
        """Let go of the model and of the device memory it held."""
        self._model = None
        if self._on_gpu():
            import torch

            torch.cuda.empty_cache()

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

        return torch.empty(shape, dtype=torch.uint8, pin_memory=self._on_gpu()).numpy()

    def _on_gpu(self) -> bool:
        return self._device.startswith("cuda")
