"""Ballast: what fills a GPU."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["take_all"]


def take_all(pieces: "list[Tensor]") -> None:
    """Add everything that is free on the device, in pieces."""
    import torch

    size, _ = torch.cuda.mem_get_info()
    while size > 2**16:
        try:
            pieces.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
