"""Devices: choose GPUs that no other worker holds, and pin this process to them before torch is imported."""

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from worker.jobs.errors import NoDevice
from worker.jobs.settings import export, visible_devices

__all__ = ["DeviceLease", "Gpu", "lease"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as NVML lists it."""

    index: int
    uuid: str


@dataclass(slots=True)
class DeviceLease:
    """The devices this process is pinned to. The kernel drops the locks when the process ends, however."""

    #: What jobs and workers show: `cpu` or the GPUs' UUIDs.
    label: str
    #: For torch: `cpu` or `cuda`.
    torch_device: str
    locks: list[IO[str]]

    def release(self) -> None:
        """Give the devices back."""
        for lock in self.locks:
            lock.close()


def list_gpus() -> Sequence[Gpu]:
    """The GPUs that this process may use; none where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        gpus = [Gpu(i, pynvml.nvmlDeviceGetUUID(handle)) for i, handle in enumerate(handles)]
    finally:
        pynvml.nvmlShutdown()
    visible = visible_devices()
    if visible is None:
        return gpus
    allowed = [name.strip() for name in visible.split(",") if name.strip()]
    return [gpu for gpu in gpus if str(gpu.index) in allowed or gpu.uuid in allowed]


def lease(devices: str, locks_dir: Path, gpus: Callable[[], Sequence[Gpu]] = list_gpus) -> DeviceLease:
    """Choose, lock and pin: sets `CUDA_VISIBLE_DEVICES`. Raises `NoDevice` saying who holds what."""
    found = [] if devices == "cpu" else gpus()
    locks_dir.mkdir(parents=True, exist_ok=True)
    chosen: list[Gpu] = []
    if devices == "auto" and found:
        chosen, locks = _first_free(found, locks_dir)
    elif devices == "spare":
        with suppress(NoDevice):
            chosen, locks = _first_free(found[1:], locks_dir)
    elif devices not in ("auto", "cpu"):
        chosen, locks = _named(devices.split(","), found, locks_dir)
    if not chosen:
        export(CUDA_VISIBLE_DEVICES="")
        return DeviceLease("cpu", "cpu", [])
    uuids = ",".join(gpu.uuid for gpu in chosen)
    export(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=uuids)
    return DeviceLease(uuids, "cuda", locks)


def _first_free(gpus: Sequence[Gpu], locks_dir: Path) -> tuple[list[Gpu], list[IO[str]]]:
    holders = []
    for gpu in gpus:
        lock = _try_lock(gpu, locks_dir)
        if not isinstance(lock, str):
            return [gpu], [lock]
        holders.append(f"{gpu.index} by {lock}")
    raise NoDevice(f"every GPU is held: {'; '.join(holders)}")


def _named(names: Sequence[str], gpus: Sequence[Gpu], locks_dir: Path) -> tuple[list[Gpu], list[IO[str]]]:
    by_name = {key: gpu for gpu in gpus for key in (str(gpu.index), gpu.uuid)}
    chosen, locks = [], []
    for name in names:
        gpu = by_name.get(name.strip())
        if gpu is None:
            raise NoDevice(f"there is no GPU {name.strip()!r}; there are {sorted(by_name) or 'none'}")
        lock = _try_lock(gpu, locks_dir)
        if isinstance(lock, str):
            raise NoDevice(f"GPU {gpu.index} is held by {lock}")
        chosen.append(gpu)
        locks.append(lock)
    return chosen, locks


def _try_lock(gpu: Gpu, locks_dir: Path) -> IO[str] | str:
    """The lock, held for as long as the file is open; or who holds it."""
    file = (locks_dir / f"{gpu.uuid}.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        return holder
    file.truncate(0)
    file.write(f"pid {os.getpid()} on {os.uname().nodename}")
    file.flush()
    return file
