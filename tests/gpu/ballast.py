"""Fills the memory of a GPU."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fill_device"]


def fill_device(pieces: "list[Tensor]") -> None:
    """Allocate all free memory of the device, as tensors that are appended to `pieces`."""
    import torch

    size, _ = torch.cuda.mem_get_info()
    while size > 2**16:
        try:
            pieces.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
