"""The selection of GPUs for this process: it locks the first free one, or all that the user named."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from worker.devices.gpus import GIB, Gpu, find
from worker.devices.locks import take_lock
from worker.jobs.errors import NoDevice

__all__ = ["POLLING", "GpuSelector", "ListGpus", "LockedGpus", "Polling"]

log = logging.getLogger(__name__)

ListGpus = Callable[[], Sequence[Gpu]]
#: GPUs with their open lock files, in the order in which CUDA is to number them.
LockedGpus = dict[Gpu, IO[str]]


@dataclass(frozen=True, slots=True)
class Polling:
    """The pauses between two checks of the GPUs, in seconds, and the clock that measures all waits."""

    interval_s: float = 0.5
    #: The pause of a worker that waits until other workers end, which may take days.
    slow_interval_s: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def grace_s(self) -> float:
        """The shortest wait for a lock, in seconds.

        Another worker may hold the lock only while it reads the memory of that GPU.
        """
        return 2 * self.interval_s


POLLING = Polling()


@dataclass(frozen=True, slots=True)
class GpuSelector:
    """A selection among the GPUs that `list_gpus` returns, and the conditions that they must meet.

    `free_bytes` of a GPU's memory must be free, or half of it if that is None. The memory of a killed worker
    may count as used for a while, so the selector waits up to `wait_s` seconds for it.
    """

    list_gpus: ListGpus
    locks_dir: Path
    free_bytes: int | None
    wait_s: float
    polling: Polling

    def first_free(self, patience_s: float = 0.0) -> LockedGpus:
        """Lock the first GPU that no other process holds and that has enough free memory.

        Waits up to `patience_s` seconds until another process gives a GPU back. Raises `NoDevice` with the
        reason for each GPU if none can be had.
        """
        return _FirstFree(self, patience_s).find()

    def named(self, names: Sequence[str]) -> LockedGpus:
        """Lock the GPUs of these names, all or none.

        A GPU with too little free memory is used anyway, after a wait and with a warning.

        Raises `NoDevice` if a name matches no GPU, or if another process holds one of the GPUs.
        """
        gpus = _resolve(names, self.list_gpus())
        with ExitStack() as undo:
            locks = {}
            # All workers lock in the same order. So if two want the same GPUs, one of them gets them all.
            for gpu in sorted(gpus, key=lambda gpu: gpu.uuid):
                locks[gpu] = undo.enter_context(self._lock_with_grace(gpu))
            undo.pop_all()
        self._wait_for_memory(gpus)
        return {gpu: locks[gpu] for gpu in gpus}

    def has_memory(self, gpu: Gpu) -> bool:
        """Return whether enough of the GPU's memory is free."""
        return gpu.free >= self._required_bytes(gpu)

    def shortage(self, gpu: Gpu) -> str:
        """Describe a GPU with too little free memory, for the log and for errors."""
        required = self._required_bytes(gpu) / GIB
        return f"{gpu}; {required:.1f} GiB must be free (STOKER_DEVICE_FREE_BYTES)"

    def _lock_with_grace(self, gpu: Gpu) -> IO[str]:
        polling = self.polling
        return take_lock(gpu, self.locks_dir, polling.grace_s, clock=polling.clock, sleep=polling.sleep)

    def _required_bytes(self, gpu: Gpu) -> int:
        return gpu.total // 2 if self.free_bytes is None else self.free_bytes

    def _wait_for_memory(self, gpus: Sequence[Gpu]) -> None:
        """Wait up to `wait_s` seconds until the GPUs have enough free memory. Log a warning otherwise."""
        uuids = {gpu.uuid for gpu in gpus}
        deadline = self.polling.clock() + self.wait_s
        announced = False
        while True:
            short = [gpu for gpu in self.list_gpus() if gpu.uuid in uuids and not self.has_memory(gpu)]
            if not short or self.polling.clock() >= deadline:
                break
            if not announced:
                for gpu in short:
                    log.info("waiting up to %.0f s: %s", self.wait_s, self.shortage(gpu))
                announced = True
            self.polling.sleep(self.polling.interval_s)
        for gpu in short:
            log.warning("used anyway, because it was named: %s", self.shortage(gpu))


class _FirstFree:
    """One search for a free GPU: it checks all GPUs again and again, until one is free or time is up."""

    def __init__(self, selector: GpuSelector, patience_s: float) -> None:
        self._selector = selector
        self._polling = selector.polling
        self._patience_s = patience_s
        start = self._polling.clock()
        self._grace_ends = start + self._polling.grace_s
        self._memory_wait_ends = start + selector.wait_s
        #: When the search gives up.
        self._deadline = max(self._grace_ends, start + patience_s)
        #: The subjects of the warnings that are in the log: a GPU's UUID, or "patience".
        self._warned: set[str] = set()

    def find(self) -> LockedGpus:
        """Return the first free GPU and its lock. Raises `NoDevice`."""
        while True:
            reasons = ["no GPU is free"]
            for gpu in self._selector.list_gpus():
                try:
                    return self._try_lock(gpu)
                except NoDevice as reason:
                    reasons.append(str(reason))
            self._wait("; ".join(reasons))

    def _try_lock(self, gpu: Gpu) -> LockedGpus:
        """Lock the GPU. Raises `NoDevice` if another process holds it, or if its memory is too short."""
        lock = take_lock(gpu, self._selector.locks_dir)
        # Read the memory only now that the lock is held: when the GPUs were listed, its last holder may have
        # been loading its model.
        current = find(self._selector.list_gpus(), gpu.uuid)
        if current is not None and self._selector.has_memory(current):
            return {current: lock}
        lock.close()
        self._deadline = max(self._deadline, self._memory_wait_ends)
        shortage = self._selector.shortage(current or gpu)
        self._warn_once(gpu.uuid, f"skipped: {shortage}")
        raise NoDevice(shortage)

    def _wait(self, reasons: str) -> None:
        """Sleep until the next check of the GPUs. Raises `NoDevice(reasons)` if time is up."""
        now = self._polling.clock()
        if now >= self._deadline:
            raise NoDevice(reasons)
        if self._patience_s <= 0 or now < self._grace_ends:
            self._polling.sleep(self._polling.interval_s)
            return
        self._warn_once(
            "patience", f"waiting up to {self._patience_s:.0f} s (STOKER_DEVICE_WAIT_S): {reasons}"
        )
        self._polling.sleep(self._polling.slow_interval_s)

    def _warn_once(self, subject: str, message: str) -> None:
        if subject not in self._warned:
            log.warning("%s", message)
            self._warned.add(subject)


def _resolve(names: Sequence[str], gpus: Sequence[Gpu]) -> Sequence[Gpu]:
    """Return the GPUs of these names, in their order.

    Raises `NoDevice` if a name matches no GPU, if a GPU is named twice, or for several MIG slices.
    """
    chosen: list[Gpu] = []
    for name in (name.strip() for name in names):
        gpu = find(gpus, name)
        if gpu is None:
            available = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus)
            raise NoDevice(f"there is no GPU {name!r}; there are {available or 'none'}")
        if gpu in chosen:
            raise NoDevice(f"GPU {gpu.index} is named twice")
        chosen.append(gpu)
    if len(chosen) > 1 and any(gpu.uuid.startswith("MIG-") for gpu in chosen):
        raise NoDevice("CUDA lets a process use one MIG slice, not several")
    return chosen
