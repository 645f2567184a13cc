"""The device lease: this process locks its GPUs and is pinned to them before torch is imported."""

import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from worker.devices.gpus import list_gpus
from worker.devices.selection import POLLING, GpuSelector, ListGpus, LockedGpus, Polling
from worker.jobs.errors import ConfigurationError, NoDevice
from worker.jobs.settings import set_env

__all__ = ["DeviceLease", "lease"]

log = logging.getLogger(__name__)

#: How long the memory of a worker that was just killed may still count as used.
MEMORY_RELEASE_WAIT_S = 15.0


@dataclass(slots=True)
class DeviceLease:
    """The devices that this process is pinned to.

    The kernel drops the locks when the process ends, even if it is killed.
    """

    #: `cpu`, or the UUIDs of the GPUs, separated by commas. The API shows it in jobs and workers.
    label: str
    #: The device name for torch: `cpu` or `cuda`.
    torch_device: str
    locks: list[IO[str]]

    @property
    def gpus(self) -> int:
        """The number of GPUs, 0 on the CPU. A model is split over several GPUs (tensor parallel)."""
        return len(self.locks)

    def release(self) -> None:
        """Unlock the devices, so that another worker can lease them."""
        for lock in self.locks:
            lock.close()


def lease(
    devices: str,
    locks_dir: Path,
    list_gpus: ListGpus = list_gpus,
    *,
    free_bytes: int | None = None,
    wait_s: float = MEMORY_RELEASE_WAIT_S,
    patience_s: float = 0.0,
    polling: Polling = POLLING,
) -> DeviceLease:
    """Choose the devices, lock them, and set `CUDA_VISIBLE_DEVICES` to them.

    `devices` is one of:

    - `auto`: the first free GPU, or the CPU if this machine has no GPU;
    - `spare`: the first free GPU but never the first of the machine, or the CPU if there is none;
    - `cpu`;
    - names of GPUs, separated by commas: all of them.

    A GPU is free if no other process holds its lock and `free_bytes` of its memory are free, by default half
    of it. A GPU with less free memory is used only if it is named, after `wait_s` seconds. `auto` waits up to
    `patience_s` seconds until another process gives a GPU back.

    Raises `NoDevice` with the processes that hold the GPUs, and `ConfigurationError` if this process already
    uses CUDA.
    """
    _require_no_cuda_context()
    available = () if devices == "cpu" else list_gpus()
    selector = GpuSelector(list_gpus, locks_dir, free_bytes, wait_s, polling)
    if locked := _lock_gpus(devices, len(available), selector, patience_s):
        return _pin_to(locked)
    level = logging.WARNING if devices == "auto" else logging.INFO
    log.log(level, "this worker runs on the CPU: devices=%s, GPUs here: %d", devices, len(available))
    set_env(CUDA_VISIBLE_DEVICES="")
    return DeviceLease("cpu", "cpu", [])


def _lock_gpus(devices: str, available: int, selector: GpuSelector, patience_s: float) -> LockedGpus:
    """Lock the GPUs that `devices` asks for. Return none if the worker is to run on the CPU."""
    if devices == "auto" and available:
        return selector.first_free(patience_s)
    if devices == "spare" and available > 1:
        others = replace(selector, list_gpus=lambda: selector.list_gpus()[1:])
        try:
            return others.first_free()
        except NoDevice as error:
            log.info("%s", error)
    elif devices not in ("auto", "cpu", "spare"):
        return selector.named(devices.split(","))
    return {}


def _require_no_cuda_context() -> None:
    """Raise `ConfigurationError` if this process has a CUDA context: it could not be pinned any more."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise ConfigurationError(
            "CUDA was initialised before the worker could choose its GPU: import less at start"
        )


def _pin_to(locked: LockedGpus) -> DeviceLease:
    """Make these GPUs the only ones that CUDA shows to this process and its children."""
    uuids = ",".join(gpu.uuid for gpu in locked)
    set_env(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=uuids)
    return DeviceLease(uuids, "cuda", list(locked.values()))
