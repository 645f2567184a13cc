"""Runs the model on its device: warms it up for a clip, and feeds it batches through reused buffers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from worker.devices import memory
from worker.jobs.errors import ConfigurationError
from worker.jobs.limits import ClipSize
from worker.video.decoding.reader import Frames
from worker.video.inference.composite import Background, Compositor, Effect, compositor
from worker.video.inference.torch_errors import classify_torch_error
from worker.video.models import MODELS, VideoModel

__all__ = ["RESULTS", "SMALL", "WARM_UP_BATCHES", "ClipTransform", "ModelRunner", "load_model_runner"]

log = logging.getLogger(__name__)

#: Blank batches for a new effect and size. In the first, cuDNN tries its algorithms. In the second, torch
#: records CUDA graphs. From the third on, all batches run alike.
WARM_UP_BATCHES = 3
#: Height and width of the first blank frames after loading, in pixels.
SMALL = 16
#: Result buffers on the host: the encoder reads one while the device copies into the other.
RESULTS = 2


def load_model_runner(
    name: str,
    weights: Path,
    device: str,
    batch_size: int,
    *,
    sizes: Iterable[ClipSize] = (),
    compiled: bool = False,
    warm_up_per_clip: bool | None = None,
) -> ModelRunner:
    """Load the model `name`, compile it if `compiled`, and warm it up for clips of `sizes`.

    Raises `ConfigurationError` if no model has this name or torch cannot compile the model, and
    `ModelMissing` if the weights are not this model's.
    """
    if name not in MODELS:
        raise ConfigurationError(f"no video model is called {name}; there are {', '.join(MODELS)}")
    model = MODELS[name].load(weights, device)
    runner = ModelRunner(model, device, batch_size, warm_up_per_clip=warm_up_per_clip)
    try:
        if compiled:
            model.compile()
        runner.warm_up(sizes)
    except RuntimeError as error:  # torch's compiler raises it for any missing tool
        if not compiled or classify_torch_error(error):
            raise
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"torch cannot compile the video model ({reason})") from error
    return runner


class ModelRunner:
    """A model on its device, with buffers for batches of `batch_size` frames.

    On a GPU all methods must be called from one thread: cuDNN keeps the results of its trials for the thread
    that made them, and a CUDA graph belongs to the thread that recorded it.

    `warm_up_per_clip` says whether `prepare` runs blank batches. By default it does on a GPU only.
    """

    def __init__(
        self, model: VideoModel, device: str, batch_size: int, *, warm_up_per_clip: bool | None = None
    ) -> None:
        self._model = model
        self._device = device
        self._batch_size = batch_size
        self._on_gpu = device.startswith("cuda")
        self._warm_up_per_clip = self._on_gpu if warm_up_per_clip is None else warm_up_per_clip
        self._warm: set[tuple[Effect, int, int]] = set()
        #: The buffers of the running job. They must stay allocated if the device is lost: torch would abort
        #: the process if it had to free pinned memory then.
        self._buffers: list[Tensor] = []
        if self._on_gpu:
            torch.backends.cudnn.benchmark = True

    def warm_up(self, sizes: Iterable[ClipSize]) -> None:
        """Run a small blank batch, which compiles the model if that is requested, and warm up for `sizes`.

        A CPU has no algorithms to choose and no memory to reserve for a size, so it runs the small batch
        only. If the memory does not suffice for a size, the runner logs that and skips the size.
        """
        self._run_blank(self.prepare("matte", (0, 0, 0), SMALL, SMALL), SMALL, SMALL, 1)
        for size in sizes if self._warm_up_per_clip else ():
            image = np.zeros((size.height, size.width, 3), np.uint8)
            try:
                for effect in get_args(Effect):
                    self.release_buffers()
                    self.prepare(effect, image, size.height, size.width)
            except Exception as error:
                if not memory.is_shortage(error):
                    raise
                log.warning("cannot warm up for clips of %dx%d: %s", *size, str(error).partition("\n")[0])
        self.release_buffers()

    def prepare(self, effect: Effect, background: Background, height: int, width: int) -> ClipTransform:
        """Return the warmed-up transform for the batches of one clip of `height` x `width` pixels.

        Before the clip, blank batches run through the same steps: three for a new (effect, size), one for a
        known one, because the allocator may have given that memory to another size meanwhile.
        """
        compose = compositor(effect, background, height, width, self._device)
        shape = (self._batch_size, height, width, 3)
        results = [self._allocate(shape) for _ in range(RESULTS if self._on_gpu else 0)]
        transform = ClipTransform(self._model, compose, self._device, cycle(results))
        if self._warm_up_per_clip:
            known = (effect, height, width) in self._warm
            self._run_blank(transform, height, width, 1 if known else WARM_UP_BATCHES)
            self._warm.add((effect, height, width))
        return transform

    def buffer(self, shape: tuple[int, ...]) -> Frames:
        """Allocate a uint8 buffer of this shape on the host, valid until `release_buffers`.

        For a GPU it lies in pinned memory: the device copies to and from it without the CPU.
        """
        return self._allocate(shape).numpy()

    def release_buffers(self) -> None:
        """Release all buffers and the results that lie in them."""
        self._buffers.clear()

    def _allocate(self, shape: tuple[int, ...]) -> Tensor:
        buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._buffers.append(buffer)
        return buffer

    def _run_blank(self, transform: ClipTransform, height: int, width: int, batches: int) -> None:
        blank = self.buffer((self._batch_size, height, width, 3))
        blank[:] = 0
        for _ in range(batches):
            transform(blank, 0)


class ClipTransform:
    """The transform of one clip's batches: model, then compositor.

    On a GPU, `results` yields the host buffers for the results, in turn.
    """

    def __init__(
        self, model: VideoModel, compose: Compositor, device: str, results: Iterator[Tensor]
    ) -> None:
        self._model = model
        self._compose = compose
        self._device = device
        self._results = results

    @torch.inference_mode()
    def __call__(self, frames: Frames, valid: int) -> Frames:
        """Return the results (N,H,W,3) of `frames` (N,H,W,3), of which the first `valid` are real.

        Both are uint8 RGB on the host. On a GPU the results stay valid until the call after the next one. The
        caller may overwrite `frames` as soon as this call returns.
        """
        batch = torch.from_numpy(frames).to(self._device, non_blocking=True)
        results = self._compose(batch, self._model(batch, valid)).contiguous()
        if not results.is_cuda:
            return results.numpy()
        host = next(self._results)[: len(results)]
        host.copy_(results, non_blocking=True)
        # A blocking event sleeps instead of spinning: the encoder needs the CPU.
        copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch's stub
        copied.record()
        copied.synchronize()
        return host.numpy()
