"""Tells what an error of torch means for the job and for its worker."""

from __future__ import annotations

import gc
from contextlib import suppress

from worker.jobs.errors import EngineLost, OutOfMemory

#: how torch says that there is no memory where it has no error of its own for it, in lower case
_NO_MEMORY = ("out of memory", "can't allocate memory", "alloc_failed")


def failure_of(error: Exception) -> OutOfMemory | EngineLost | None:
    """What `error` of the model or around it comes to; None if it says nothing of the device."""
    if isinstance(error, MemoryError):
        return OutOfMemory("The machine has not enough memory for this clip.")
    if not isinstance(error, RuntimeError):
        return None
    import torch

    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
        return OutOfMemory("The device has not enough memory for this clip.")
    if isinstance(error, torch.AcceleratorError) or "cuda error" in text:
        return EngineLost(str(error).partition("\n")[0])  # the rest is advice on how to debug
    return None


def free_memory() -> None:
    """Give back what nothing refers to any more, also to the device."""
    import torch

    gc.collect()
    with suppress(RuntimeError):  # a lost device has nothing to give back
        torch.cuda.empty_cache()  # nothing, where there is no CUDA
