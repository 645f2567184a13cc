"""Tells what an error of torch means for the job and for its worker."""

from __future__ import annotations

from worker.devices import memory
from worker.jobs.errors import EngineDied, OutOfMemory


def failure_of(error: Exception) -> OutOfMemory | EngineDied | None:
    """What `error` of the model or around it comes to; None if it says nothing of the device."""
    if memory.is_shortage(error):
        return OutOfMemory("there was not enough memory for this clip")
    if not isinstance(error, RuntimeError):
        return None
    import torch

    if isinstance(error, torch.AcceleratorError) or "cuda error" in str(error).lower():
        return EngineDied(str(error).partition("\n")[0])  # the rest is advice on how to debug
    return None
