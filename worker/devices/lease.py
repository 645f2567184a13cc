"""Devices: choose GPUs that no other worker holds, and pin this process to them before torch is imported."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from worker.devices.gpus import GIB, Gpu, find, list_gpus
from worker.devices.locks import take_lock
from worker.jobs.errors import ConfigurationError, NoDevice
from worker.jobs.settings import set_env

__all__ = ["DeviceLease", "Gpu", "lease", "list_gpus"]

log = logging.getLogger(__name__)

#: How long a GPU that nobody holds may take to get its memory back from a worker that was killed just now.
MEMORY_RELEASE_WAIT_S = 15.0
POLL_S = 0.5
#: The same for who waits for another worker's end, maybe for days.
SLOW_POLL_S = 2.0

ListGpus = Callable[[], Sequence[Gpu]]


@dataclass(slots=True)
class DeviceLease:
    """The devices this process is pinned to. The kernel drops the locks when the process ends, however."""

    #: What jobs and workers show: `cpu` or the GPUs' UUIDs.
    label: str
    #: For torch: `cpu` or `cuda`.
    torch_device: str
    locks: list[IO[str]]

    @property
    def gpus(self) -> int:
        """How many GPUs: 0 on the CPU; over 1 the model is split between them (tensor parallel)."""
        return len(self.locks)

    def release(self) -> None:
        """Give the devices back."""
        for lock in self.locks:
            lock.close()


def lease(
    devices: str,
    locks_dir: Path,
    list_gpus_now: ListGpus = list_gpus,
    *,
    free_bytes: int | None = None,
    wait_s: float = MEMORY_RELEASE_WAIT_S,
    patience_s: float = 0.0,
) -> DeviceLease:
    """Choose, lock and pin: sets `CUDA_VISIBLE_DEVICES`. Raises `NoDevice` saying who holds what.

    A GPU is chosen if `free_bytes` of its memory are free, by default half of it; one that was named is
    taken with less, after `wait_s` seconds. `auto` waits `patience_s` seconds for GPUs that others hold.
    """
    _require_no_cuda_context()
    chosen: dict[Gpu, IO[str]] = {}
    found = () if devices == "cpu" else list_gpus_now()
    if devices == "auto" and found:
        chosen = _first_free(list_gpus_now, locks_dir, free_bytes, wait_s, patience_s)
    elif devices == "spare" and found[1:]:
        try:
            chosen = _first_free(lambda: list_gpus_now()[1:], locks_dir, free_bytes, wait_s, patience_s=0)
        except NoDevice as error:
            log.info("%s", error)
    elif devices not in ("auto", "cpu", "spare"):
        chosen = _named(devices.split(","), list_gpus_now, locks_dir)
        _await_memory(chosen, list_gpus_now, free_bytes, wait_s)
    if not chosen:
        level = logging.WARNING if devices == "auto" else logging.INFO
        log.log(level, "this worker runs on the CPU: devices=%s, GPUs here: %d", devices, len(found))
        set_env(CUDA_VISIBLE_DEVICES="")
        return DeviceLease("cpu", "cpu", [])
    uuids = ",".join(gpu.uuid for gpu in chosen)
    set_env(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=uuids)
    return DeviceLease(uuids, "cuda", list(chosen.values()))


def _require_no_cuda_context() -> None:
    """A process that has a CUDA context cannot be pinned any more."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise ConfigurationError(
            "CUDA was initialised before the worker could choose its GPU: import less at start"
        )


def _first_free(
    list_gpus_now: ListGpus, locks_dir: Path, free_bytes: int | None, wait_s: float, patience_s: float
) -> dict[Gpu, IO[str]]:
    """The first GPU that nobody holds and that has the memory, and its lock.

    Memory is looked at under the lock: before it, a worker that was still loading may just have ended.
    Who finds all held looks again, for another worker may have held one for as long as such a look takes.
    """
    start = time.monotonic()
    end = start + max(2 * POLL_S, patience_s)
    told: set[str] = set()
    while True:
        reasons = []
        for gpu in list_gpus_now():
            try:
                lock = take_lock(gpu, locks_dir)
            except NoDevice as held:
                reasons.append(str(held))
                continue
            now = find(list_gpus_now(), gpu.uuid)
            if now is not None and now.free >= _wanted(now, free_bytes):
                return {now: lock}
            lock.close()
            reasons.append(_shortage(now or gpu, free_bytes))
            end = max(end, start + wait_s)
            if gpu.uuid not in told:
                log.warning("skipped: %s", reasons[-1])
                told.add(gpu.uuid)
        none, now_s = "; ".join(["no GPU is free", *reasons]), time.monotonic()
        if now_s >= end:
            raise NoDevice(none)
        long = patience_s > 0 and now_s >= start + 2 * POLL_S
        if long and "all" not in told:
            log.warning("waiting up to %.0f s (STOKER_DEVICE_WAIT_S): %s", patience_s, none)
            told.add("all")
        time.sleep(SLOW_POLL_S if long else POLL_S)


def _named(names: Sequence[str], list_gpus_now: ListGpus, locks_dir: Path) -> dict[Gpu, IO[str]]:
    """The GPUs of these names and their locks: all or none."""
    gpus = list_gpus_now()
    chosen: list[Gpu] = []
    for name in (name.strip() for name in names):
        gpu = find(gpus, name)
        if gpu is None:
            there = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus)
            raise NoDevice(f"there is no GPU {name!r}; there are {there or 'none'}")
        if gpu in chosen:
            raise NoDevice(f"GPU {gpu.index} is named twice")
        chosen.append(gpu)
    if len(chosen) > 1 and any(gpu.uuid.startswith("MIG-") for gpu in chosen):
        raise NoDevice("CUDA lets a process use one MIG slice, not several")
    with ExitStack() as undo:
        locks = {}
        for gpu in sorted(chosen, key=lambda gpu: gpu.uuid):  # of two who want the same, one gets them
            locks[gpu] = undo.enter_context(take_lock(gpu, locks_dir, wait_s=2 * POLL_S))
        undo.pop_all()
    return {gpu: locks[gpu] for gpu in chosen}


def _await_memory(
    gpus: dict[Gpu, IO[str]], list_gpus_now: ListGpus, free_bytes: int | None, wait_s: float
) -> None:
    """Wait for memory that a killed worker has not returned yet; who named a GPU gets it with less, too."""
    end = time.monotonic() + wait_s
    short: list[Gpu] = []
    while True:
        now = [gpu for gpu in list_gpus_now() if any(gpu.uuid == held.uuid for held in gpus)]
        before, short = short, [gpu for gpu in now if gpu.free < _wanted(gpu, free_bytes)]
        if not short or time.monotonic() >= end:
            break
        for gpu in () if before else short:
            log.info("waiting up to %.0f s: %s", wait_s, _shortage(gpu, free_bytes))
        time.sleep(POLL_S)
    for gpu in short:
        log.warning("taken, for it was asked for: %s", _shortage(gpu, free_bytes))


def _wanted(gpu: Gpu, free_bytes: int | None) -> int:
    return gpu.total // 2 if free_bytes is None else free_bytes


def _shortage(gpu: Gpu, free_bytes: int | None) -> str:
    return f"{gpu}; {_wanted(gpu, free_bytes) / GIB:.1f} GiB must be (STOKER_DEVICE_FREE_BYTES)"
