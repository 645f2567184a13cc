"""Threads of a CPU that each work on a frame of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from worker.devices.cores import usable_cores

__all__ = ["FrameThreads"]


class FrameThreads:
    """As many threads as there are cores, each with one frame at a time.

    torch's own threads share the work of each operation, and wait for each other after it. The operations of
    a small net are too short for that. One frame also fits better into the cache of a core than a batch does.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(
            usable_cores(), "frame", initializer=torch.set_num_threads, initargs=(1,)
        )

    def fill(self, out: Tensor, function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
        """Fill `out` with the results of `function` for each frame of the `batches`, and return it.

        The arguments and the result of the function are batches of one frame. Raises its first error.
        """

        @torch.inference_mode()
        def fill_one(target: Tensor, *frames: Tensor) -> None:
            target.copy_(function(*frames))

        parts = (torch.split(batch, 1) for batch in (out, *batches))
        for _ in self._pool.map(fill_one, *parts):
            pass
        return out
