"""Memory allocated, reserved and their peaks, around a batch or at this moment."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import psutil

from worker.devices.gpus import list_gpus

#: How torch says it, in lower case; the last two when cuDNN has no room for the workspace of any algorithm,
#: or for its attention's kernels.
_SHORTAGE = (
    "can't allocate memory",
    "out of memory",
    "alloc_failed",
    "unable to find an engine",
    "mha_graph.execute",
)

#: "cuda": what torch's allocator holds on the device, or all processes if it is not this one that uses it;
#: "rss": resident set size of this process
Source = Literal["cuda", "rss"]


@dataclass(frozen=True, slots=True)
class MemorySample:
    """One reading, in bytes; on a CPU both fields are the resident set size."""

    allocated: int
    reserved: int


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Memory around a piece of work, in bytes.

    On a CPU a peak is the larger of before and after: the kernel's own peak cannot be reset.
    """

    source: Source
    before: MemorySample
    after: MemorySample
    peak_allocated: int
    peak_reserved: int


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """Memory at this moment, in bytes; `total` is the device's, on a CPU the machine's."""

    source: Source
    allocated: int
    reserved: int
    total: int


@dataclass(slots=True)
class Meter:
    """What `measure` yields: `report` is there once the block has ended."""

    _reports: list[MemoryReport] = field(default_factory=list)

    @property
    def report(self) -> MemoryReport:
        """The report of the block; RuntimeError while it still runs."""
        if not self._reports:
            raise RuntimeError("the measured block has not ended yet")
        return self._reports[0]


@contextmanager
def measure(device: str) -> Iterator[Meter]:
    """Reset the device's peaks, run the block, then fill the meter's report (not if the block raises)."""
    meter = Meter()
    if _is_cuda(device):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        before = _sample(device)
        yield meter
        after, peaks = _device_samples(device)
        meter._reports.append(MemoryReport("cuda", before, after, peaks.allocated, peaks.reserved))
    else:
        before = _sample(device)
        yield meter
        after = _sample(device)
        peak = max(before.allocated, after.allocated)
        meter._reports.append(MemoryReport("rss", before, after, peak, peak))


def snapshot(device: str) -> MemorySnapshot:
    """Memory at this moment, for a worker's status; `dataclasses.asdict` makes it JSON."""
    if _is_cuda(device):
        import torch

        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            # Nor must it be from here: the engine has yet to do so, or has processes of its own, as vLLM.
            gpus = list_gpus()
            used, total = sum(gpu.total - gpu.free for gpu in gpus), sum(gpu.total for gpu in gpus)
            return MemorySnapshot("cuda", used, used, total)
        sample = _sample(device)
        total = torch.cuda.get_device_properties(device).total_memory
        return MemorySnapshot("cuda", sample.allocated, sample.reserved, total)
    sample = _sample(device)
    return MemorySnapshot("rss", sample.allocated, sample.reserved, psutil.virtual_memory().total)


def is_shortage(error: BaseException) -> bool:
    """Whether the error says that there was not enough memory, on the device or the host.

    For host memory, and for the device's while a CUDA graph is captured, torch says so in words only.
    """
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):  # which torch's own OutOfMemoryError is
        return False
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(words in text for words in _SHORTAGE)


def free(device: str) -> None:
    """Give back what nothing refers to any more, also to the device."""
    gc.collect()
    if _is_cuda(device):
        import torch

        with suppress(RuntimeError):  # a lost device has nothing to give back
            torch.cuda.empty_cache()


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda")


def _sample(device: str) -> MemorySample:
    if _is_cuda(device):
        return _device_samples(device)[0]
    resident = psutil.Process().memory_info().rss
    return MemorySample(resident, resident)


def _device_samples(device: str) -> tuple[MemorySample, MemorySample]:
    """Now, and the peaks since they were reset; torch takes long to tell, but tells all at once."""
    import torch

    stats = torch.cuda.memory_stats(device)
    now, peaks = (
        MemorySample(*(stats.get(f"{kind}_bytes.all.{when}", 0) for kind in ("allocated", "reserved")))
        for when in ("current", "peak")
    )
    return now, peaks
