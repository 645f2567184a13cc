"""The model on its device: warmed up for a clip, then fed the clip's batches through buffers used again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from worker.devices import memory
from worker.jobs.limits import ClipSize
from worker.video.decoding.reader import Frames
from worker.video.inference.composite import Background, Compositor, Effect, compositor
from worker.video.models import VideoModel

log = logging.getLogger(__name__)

#: In the first cuDNN tries its algorithms, in the second CUDA graphs are recorded; then all is as it will be.
WARM_UP_BATCHES = 3
#: Height and width of the pictures to wake up with, in pixels.
SMALL = 16
#: Batches of results on the host: one is encoded while the next is copied.
RESULTS = 2


class ModelRunner:
    """Where a worker's clips are made, in batches of `batch_size` frames.

    On a GPU all of it is called from one thread: cuDNN keeps what its trials showed for the thread that made
    them, and CUDA graphs belong to theirs. `warms`: whether clips are warmed up for; by default on a GPU.
    """

    def __init__(self, model: VideoModel, device: str, batch_size: int, *, warms: bool | None = None) -> None:
        self._model = model
        self._device = device
        self._batch_size = batch_size
        self._on_gpu = device.startswith("cuda")
        self._warms = self._on_gpu if warms is None else warms
        self._warm: set[tuple[Effect, int, int]] = set()
        #: Those of the running job. They stay when the device is lost: torch would end the process if it
        #: had to free pinned memory then.
        self._buffers: list[Tensor] = []
        if self._on_gpu:
            torch.backends.cudnn.benchmark = True

    def warm_up(self, sizes: Iterable[ClipSize]) -> None:
        """Wake up with a small batch (it compiles what is to be compiled), and warm up for these sizes.

        A CPU has nothing to choose or to reserve for a size, and leaves it at the former.
        """
        self._rehearse(self.scene("matte", (0, 0, 0), SMALL, SMALL), SMALL, SMALL, 1)
        for size in sizes if self._warms else ():
            image = np.zeros((size.height, size.width, 3), np.uint8)
            try:
                for effect in get_args(Effect):
                    self.clear()
                    self.scene(effect, image, size.height, size.width)
            except Exception as error:
                if not memory.is_shortage(error):
                    raise
                log.warning("not warm for clips of %dx%d: %s", *size, str(error).partition("\n")[0])
        self.clear()

    def scene(self, effect: Effect, background: Background, height: int, width: int) -> ClipTransform:
        """What does `effect` to the batches of one clip, warmed up. Raises BadVideo for a bad background.

        Blank batches go all the way that the clip's will, at least one: the memory of the device may have
        gone to clips of other sizes since the last clip of this one.
        """
        compose = compositor(effect, background, height, width, self._device)
        shape = (self._batch_size, height, width, 3)
        results = [self._room(shape) for _ in range(RESULTS if self._on_gpu else 0)]
        scene = ClipTransform(self._model, compose, self._device, cycle(results))
        if self._warms:
            known = (effect, height, width) in self._warm
            self._rehearse(scene, height, width, 1 if known else WARM_UP_BATCHES)
            self._warm.add((effect, height, width))
        return scene

    def buffer(self, shape: tuple[int, ...]) -> Frames:
        """Room for a batch on the host; pinned for a GPU, which copies from and to it without the CPU."""
        return self._room(shape).numpy()

    def clear(self) -> None:
        """Let go of the buffers."""
        self._buffers.clear()

    def _room(self, shape: tuple[int, ...]) -> Tensor:
        room = torch.empty(shape, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._buffers.append(room)
        return room

    def _rehearse(self, scene: ClipTransform, height: int, width: int, batches: int) -> None:
        blank = self.buffer((self._batch_size, height, width, 3))
        blank[:] = 0
        for _ in range(batches):
            scene(blank, 0)


class ClipTransform:
    """What is done to the batches of one clip; a GPU fills the buffers `results`, on the host, in turn."""

    def __init__(
        self, model: VideoModel, compose: Compositor, device: str, results: Iterator[Tensor]
    ) -> None:
        self._model = model
        self._compose = compose
        self._device = device
        self._results = results

    @torch.inference_mode()
    def __call__(self, frames: Frames, valid: int) -> Frames:
        """The results (N,H,W,3) for `frames` (N,H,W,3), of which `valid` are real; both uint8 RGB.

        On a GPU the results hold until the call after the next. `frames` may be overwritten after this one.
        """
        batch = torch.from_numpy(frames).to(self._device, non_blocking=True)
        results = self._compose(batch, self._model(batch, valid)).contiguous()
        if not results.is_cuda:
            return results.numpy()
        host = next(self._results)[: len(results)]
        host.copy_(results, non_blocking=True)
        copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # the encoder needs the CPU
        copied.record()
        copied.synchronize()
        return host.numpy()
