"""Classifies errors of torch: whether one job fails, or the whole worker."""

from __future__ import annotations

from worker.devices import memory
from worker.jobs.errors import EngineDied, OutOfMemory

__all__ = ["classify_torch_error"]


def classify_torch_error(error: Exception) -> OutOfMemory | EngineDied | None:
    """Return the job failure that `error` amounts to, or None if the error is not about the device.

    `OutOfMemory` fails this job only. `EngineDied` means that the device is lost, so no job can run on it.
    """
    if memory.is_shortage(error):
        return OutOfMemory("there was not enough memory for this clip")
    if not isinstance(error, RuntimeError):
        return None
    import torch

    if isinstance(error, torch.AcceleratorError) or "cuda error" in str(error).lower():
        return EngineDied(str(error).partition("\n")[0])  # the other lines only advise how to debug
    return None
