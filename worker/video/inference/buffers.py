"""The buffers of one clip's frames on the host."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Buffers"]


class Buffers:
    """The uint8 buffers of one clip on the host.

    For a GPU they are `pinned`: the device copies to and from them without the CPU.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._buffers: list[Tensor] = []

    def allocate(self, shape: tuple[int, ...]) -> Tensor:
        """Allocate a buffer of this shape, which stays until `release`."""
        buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned)
        self._buffers.append(buffer)
        return buffer

    def release(self) -> None:
        """Release all buffers."""
        self._buffers.clear()
