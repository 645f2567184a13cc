"""The GPUs of this machine as NVML tells of them, which creates no CUDA context, and which may be used.

Indexes are NVML's and `nvidia-smi`'s: by PCI bus. CUDA's own may differ where GPUs are of several kinds and
`CUDA_DEVICE_ORDER` is not `PCI_BUS_ID`; UUIDs never do.
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
    """A GPU, or a MIG slice of one; memory in bytes."""

    #: `0`, and `0:1` for a slice, as Docker writes them.
    index: str
    uuid: str
    free: int = 0
    total: int = 0
    #: The processes that use it, in words; NVML does not always know.
    users: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As much as is worth knowing of a GPU that is in use."""
        users = f", used by {', '.join(self.users)}" if self.users else ""
        return f"GPU {self.index} has {self.free / GIB:.1f} of {self.total / GIB:.1f} GiB free{users}"


def list_gpus() -> Sequence[Gpu]:
    """The GPUs that this process may use, in the order of `CUDA_VISIBLE_DEVICES` if the user has set it."""
    try:
        import pynvml
    except ImportError as error:
        log.warning("no GPU can be seen: %s", error)
        return []
    try:
        pynvml.nvmlInit()
        try:
            gpus = [gpu for index in range(pynvml.nvmlDeviceGetCount()) for gpu in _look_at(pynvml, index)]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        log.info("no GPU can be seen, NVML says: %s", error)
        return []
    visible = visible_devices()
    return gpus if visible is None else _visible(gpus, visible)


def find(gpus: Sequence[Gpu], name: str) -> Gpu | None:
    """The GPU of this index, UUID, or start of a UUID that is no other's, as CUDA takes them."""
    by_uuid = name.startswith(("GPU-", "MIG-"))
    fits = [gpu for gpu in gpus if gpu.index == name or (by_uuid and gpu.uuid.startswith(name))]
    return fits[0] if len(fits) == 1 else None


def _visible(gpus: Sequence[Gpu], names: str) -> Sequence[Gpu]:
    """As CUDA reads the variable: up to the first name that fits nothing; none if a GPU comes twice."""
    chosen: list[Gpu] = []
    for name in names.split(","):
        gpu = find(gpus, name.strip())
        if gpu is None:
            if name.strip() not in ("", "-1"):  # which is how to say none
                log.warning("CUDA_VISIBLE_DEVICES=%s: %r fits no GPU, and ends the list", names, name)
            break
        if gpu in chosen:
            log.warning("CUDA_VISIBLE_DEVICES=%s: GPU %s comes twice, which hides all", names, gpu.index)
            return []
        chosen.append(gpu)
    return chosen


def _look_at(nvml: ModuleType, index: int) -> Iterator[Gpu]:
    """The GPU at this place, its slices where it has MIG on, or nothing where it has fallen off the bus."""
    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        slices = _slices(nvml, gpu)
        parts = {str(index): gpu} if slices is None else {f"{index}:{n}": part for n, part in slices.items()}
        for name, handle in parts.items():
            free, total = _memory(nvml, handle)
            yield Gpu(name, nvml.nvmlDeviceGetUUID(handle), free, total, tuple(_users(nvml, handle)))
    except nvml.NVMLError as error:
        log.warning("GPU %d is left out, NVML says: %s", index, error)


def _memory(nvml: ModuleType, handle: Any) -> tuple[int, int]:
    """How many bytes are free, and how many there are: the machine's, where the GPU has none of its own."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError_NotSupported:
        host = psutil.virtual_memory()
        return host.available, host.total
    return memory.free, memory.total


def _slices(nvml: ModuleType, gpu: Any) -> dict[int, Any] | None:
    """A GPU's MIG slices by their number; None where it is whole."""
    try:
        if nvml.nvmlDeviceGetMigMode(gpu)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
    except nvml.NVMLError:  # it has no MIG
        return None
    slices = {}
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with suppress(nvml.NVMLError):  # no such slice
            slices[number] = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
    return slices


def _users(nvml: ModuleType, handle: Any) -> Iterator[str]:
    with suppress(nvml.NVMLError):
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            name = ""
            with suppress(nvml.NVMLError):  # in a container, of a process outside
                name = f" {nvml.nvmlSystemGetProcessName(process.pid)}"
            used = process.usedGpuMemory
            yield f"pid {process.pid}{name}" + (f" ({used / GIB:.1f} GiB)" if used else "")
