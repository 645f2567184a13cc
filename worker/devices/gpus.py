"""The GPUs of this machine, listed with NVML, and the choice that `CUDA_VISIBLE_DEVICES` makes among them.

NVML creates no CUDA context. An index is that of NVML and `nvidia-smi`, which count GPUs in the order of the
PCI bus. CUDA counts differently if the GPUs are of several kinds and `CUDA_DEVICE_ORDER` is not `PCI_BUS_ID`.
UUIDs are the same everywhere.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import psutil

from worker.jobs.settings import visible_devices

__all__ = ["GIB", "Gpu", "find", "list_gpus"]

log = logging.getLogger(__name__)

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG slice of one. `free` and `total` are bytes of its memory."""

    #: `0` for a GPU and `0:1` for a slice, as Docker writes them.
    index: str
    uuid: str
    free: int = 0
    total: int = 0
    #: A text such as `pid 7 python (2.0 GiB)` for each process that uses the GPU and that NVML can see.
    users: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describe the GPU in a log line: its index, its memory, and the processes that use it."""
        users = f", used by {', '.join(self.users)}" if self.users else ""
        return f"GPU {self.index} has {self.free / GIB:.1f} of {self.total / GIB:.1f} GiB free{users}"


def list_gpus() -> Sequence[Gpu]:
    """Return the GPUs that this process may use, or none if there is no NVML or no driver.

    The order is that of the PCI bus, or that of `CUDA_VISIBLE_DEVICES` if the user has set it.
    """
    try:
        import pynvml
    except ImportError as error:
        log.warning("no GPU is visible: %s", error)
        return []
    try:
        pynvml.nvmlInit()
        try:
            gpus = [gpu for index in range(pynvml.nvmlDeviceGetCount()) for gpu in _read_gpu(pynvml, index)]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        log.info("no GPU is visible: NVML: %s", error)
        return []
    visible = visible_devices()
    return gpus if visible is None else _visible(gpus, visible)


def find(gpus: Sequence[Gpu], name: str) -> Gpu | None:
    """Return the GPU of this name, or None if no GPU or more than one matches.

    A name is an index, a UUID, or the unambiguous start of a UUID. CUDA accepts the same names.
    """
    by_uuid = name.startswith(("GPU-", "MIG-"))
    matches = [gpu for gpu in gpus if gpu.index == name or (by_uuid and gpu.uuid.startswith(name))]
    return matches[0] if len(matches) == 1 else None


def _visible(gpus: Sequence[Gpu], names: str) -> Sequence[Gpu]:
    """Return the GPUs that `names`, the value of `CUDA_VISIBLE_DEVICES`, selects.

    CUDA reads the variable in the same way: it ignores the list from the first name that matches no GPU, and
    uses no GPU at all if one is listed twice.
    """
    chosen: list[Gpu] = []
    for name in names.split(","):
        gpu = find(gpus, name.strip())
        if gpu is None:
            if name.strip() not in ("", "-1"):  # the usual values for "no GPU"
                log.warning("CUDA_VISIBLE_DEVICES=%s: %r matches no GPU and ends the list", names, name)
            break
        if gpu in chosen:
            log.warning("CUDA_VISIBLE_DEVICES=%s: GPU %s is listed twice, which hides all", names, gpu.index)
            return []
        chosen.append(gpu)
    return chosen


def _read_gpu(nvml: ModuleType, index: int) -> Iterator[Gpu]:
    """Yield the GPU of this index, or its slices if MIG is on.

    Yields nothing, and logs a warning, if NVML cannot read the GPU, for example because it fell off the bus.
    """
    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        slices = _slices(nvml, gpu)
        parts = {str(index): gpu} if slices is None else {f"{index}:{n}": part for n, part in slices.items()}
        for name, handle in parts.items():
            free, total = _memory(nvml, handle)
            yield Gpu(name, nvml.nvmlDeviceGetUUID(handle), free, total, tuple(_users(nvml, handle)))
    except nvml.NVMLError as error:
        log.warning("GPU %d is ignored: NVML: %s", index, error)


def _memory(nvml: ModuleType, handle: Any) -> tuple[int, int]:
    """Return the free and the total memory in bytes: the machine's if the GPU has no memory of its own."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError_NotSupported:
        host = psutil.virtual_memory()
        return host.available, host.total
    return memory.free, memory.total


def _slices(nvml: ModuleType, gpu: Any) -> dict[int, Any] | None:
    """Return the handles of a GPU's MIG slices by their number, or None if MIG is off."""
    try:
        if nvml.nvmlDeviceGetMigMode(gpu)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
    except nvml.NVMLError:  # this GPU does not support MIG
        return None
    slices = {}
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with suppress(nvml.NVMLError):  # no slice has this number
            slices[number] = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
    return slices


def _users(nvml: ModuleType, handle: Any) -> Iterator[str]:
    """Yield a text for each process that computes on the GPU."""
    with suppress(nvml.NVMLError):
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            name = ""
            with suppress(nvml.NVMLError):  # a container cannot read the names of processes outside it
                name = f" {nvml.nvmlSystemGetProcessName(process.pid)}"
            used = process.usedGpuMemory
            yield f"pid {process.pid}{name}" + (f" ({used / GIB:.1f} GiB)" if used else "")
