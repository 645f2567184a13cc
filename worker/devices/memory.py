"""Memory use of this process: around a block of code, such as a batch, or at this moment."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import psutil

from worker.devices.gpus import list_gpus
from worker.jobs.readings import GpuMemory

#: Parts of torch's messages about a lack of memory, in lower case. The last two appear if cuDNN has no room
#: for the workspace of any algorithm, or for the kernels of its attention.
_SHORTAGE_TEXTS = (
    "can't allocate memory",
    "out of memory",
    "alloc_failed",
    "unable to find an engine",
    "mha_graph.execute",
)

#: The most bytes that were allocated on each device since the process has started. torch has only one such
#: count, and `measure` resets it.
_highest: dict[str, int] = {}

#: `cuda`: the memory that torch's allocator holds on the device or, if this process does not use the device
#: itself, that all processes hold. `rss`: the resident set size of this process.
Source = Literal["cuda", "rss"]


@dataclass(frozen=True, slots=True)
class MemorySample:
    """One reading, in bytes. On a CPU both fields are the resident set size."""

    allocated: int
    reserved: int


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Memory use before and after a block of code, and its peaks in between, in bytes.

    On a CPU a peak is the larger of `before` and `after`, because the kernel's own peak cannot be reset.
    """

    source: Source
    before: MemorySample
    after: MemorySample
    peak_allocated: int
    peak_reserved: int


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """Memory use at one moment, in bytes; `dataclasses.asdict` turns it into JSON.

    `total` is the memory of the device or, on a CPU, of the machine.
    """

    source: Source
    allocated: int
    reserved: int
    total: int


@dataclass(slots=True)
class Meter:
    """The result of `measure`: its `report` exists once the measured block has ended."""

    _reports: list[MemoryReport] = field(default_factory=list)

    @property
    def report(self) -> MemoryReport:
        """The report on the block. Raises RuntimeError while the block still runs."""
        if not self._reports:
            raise RuntimeError("the measured block has not ended yet")
        return self._reports[0]


@contextmanager
def measure(device: str) -> Iterator[Meter]:
    """Measure the memory use of a block on the torch device.

    Resets the device's peaks at the start. If the block raises, the meter gets no report.
    """
    meter = Meter()
    if _is_cuda(device):
        import torch

        before = _sample(device)  # before the reset, because this notes the peak until now
        torch.cuda.reset_peak_memory_stats(device)
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
    """Return the memory use of the torch device at this moment, for a worker's status."""
    if _is_cuda(device):
        import torch

        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            # Do not create a CUDA context here. Either the engine has not done so yet, or, like vLLM, it uses
            # the GPUs in processes of its own. NVML needs no context.
            gpus = list_gpus()
            used, total = sum(gpu.total - gpu.free for gpu in gpus), sum(gpu.total for gpu in gpus)
            return MemorySnapshot("cuda", used, used, total)
        sample = _sample(device)
        total = torch.cuda.get_device_properties(device).total_memory
        return MemorySnapshot("cuda", sample.allocated, sample.reserved, total)
    sample = _sample(device)
    return MemorySnapshot("rss", sample.allocated, sample.reserved, psutil.virtual_memory().total)


def read_gpus(device: str, label: str) -> tuple[GpuMemory, ...]:
    """Return the use of each GPU of this worker at this moment; none on a CPU.

    `device` is that of torch, and `label` that of the device lease: the UUID of the GPU that torch uses.
    """
    if not _is_cuda(device):
        return ()
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # see `snapshot`
        used = {gpu.uuid: gpu.total - gpu.free for gpu in list_gpus()}
        return tuple(GpuMemory(uuid, held, held, _note_peak(uuid, held)) for uuid, held in used.items())
    now, peaks = _device_samples(device)
    return (GpuMemory(label, now.allocated, now.reserved, _note_peak(device, peaks.allocated)),)


def is_shortage(error: BaseException) -> bool:
    """Return whether the error means that the device or the host had not enough memory.

    torch has no error class for a lack of host memory, nor for a lack of device memory while it captures a
    CUDA graph. In these cases only the message tells.
    """
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):  # torch's OutOfMemoryError is a RuntimeError too
        return False
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(part in text for part in _SHORTAGE_TEXTS)


def free(device: str) -> None:
    """Free the memory of objects that are no longer referenced, and return cached blocks to the device."""
    gc.collect()
    if _is_cuda(device):
        import torch

        with suppress(RuntimeError):  # a lost device has no memory to return
            torch.cuda.empty_cache()


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda")


def _sample(device: str) -> MemorySample:
    if _is_cuda(device):
        return _device_samples(device)[0]
    resident = psutil.Process().memory_info().rss
    return MemorySample(resident, resident)


def _device_samples(device: str) -> tuple[MemorySample, MemorySample]:
    """Return the current use of the device's memory, and the peaks since the last reset.

    torch returns both with one call, which is slow.
    """
    import torch

    stats = torch.cuda.memory_stats(device)
    now, peaks = (
        MemorySample(*(stats.get(f"{kind}_bytes.all.{when}", 0) for kind in ("allocated", "reserved")))
        for when in ("current", "peak")
    )
    _note_peak(device, peaks.allocated)
    return now, peaks


def _note_peak(device: str, allocated: int) -> int:
    """Return the most that was allocated on the device until now."""
    _highest[device] = max(_highest.get(device, 0), allocated)
    return _highest[device]
