"""Workers that a benchmark starts, stops and kills. Each leases its own devices."""

import subprocess
import time
from collections.abc import Collection, Sequence

import psutil

from tests.support.stack import eventually
from webapi.local.commands import worker_argv
from webapi.local.log_files import tail
from webapi.local.supervisor import spawn
from worker.devices.gpus import GIB, list_gpus
from worker.jobs.cards import WorkerCard
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env

__all__ = ["Fleet", "check_devices", "is_alive"]

#: Time limits of a start, in which vLLM compiles the model, and of the release of a killed worker's memory.
START_S, FREE_S = 400.0, 60.0
#: A GPU is free if less of its memory is in use, in bytes. The driver itself takes some.
FREE_BYTES = 2 * GIB

Process = subprocess.Popen[bytes]


class Fleet:
    """The workers of one API and one kind. It is a context manager that kills those that are left."""

    def __init__(self, settings: Settings, kind: str = "chat") -> None:
        self.settings = settings
        self._kind = kind
        self.processes: list[Process] = []
        self._registry = Registry(RedisStore(settings))
        self._log = settings.home_dir / f"{kind}.log"

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error:
            print(tail(self._log, 60) if self._log.exists() else "no worker has started")
        for process in self.processes:
            process.kill()
            process.wait()

    def start(self, all_settings: Sequence[Settings]) -> list[WorkerCard]:
        """Start a worker with each of the settings, at one instant. Return their cards when all are ready."""
        new = []
        for settings in all_settings:
            with self._log.open("ab") as log:
                new.append(spawn(worker_argv(self._kind, settings), child_env(settings), log))
        self.processes += new

        def all_ready() -> list[WorkerCard] | None:
            assert all(process.poll() is None for process in new), "a worker has ended"
            cards = [card for card in self.cards(new) if card.state == "ready"]
            return cards if len(cards) == len(new) else None

        return eventually(all_ready, "ready workers", START_S)

    def cards(self, processes: Collection[Process]) -> list[WorkerCard]:
        """Return the cards of these workers, as far as they have one."""
        pids = {process.pid for process in processes}
        return [card for card in self._registry.workers() if card.pid in pids]

    def keep(self, count: int) -> None:
        """Stop workers until `count` are left."""
        stopped, self.processes = self.processes[count:], self.processes[:count]
        for process in stopped:
            process.terminate()
        for process in stopped:
            process.wait()

    def kill(self, process: Process) -> float:
        """Kill the worker, and return the seconds until its processes are gone and its GPU is free."""
        device = self.cards([process])[0].device
        left = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        since = time.monotonic()
        process.wait()
        eventually(lambda: not any(map(is_alive, left)), "the end of a killed worker's processes", FREE_S)
        eventually(lambda: is_free(device), "the memory of a killed worker", FREE_S)
        seconds = time.monotonic() - since
        self.processes.remove(process)
        return seconds


def is_alive(process: psutil.Process) -> bool:
    """Return True if the process runs, and is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_free(device: str) -> bool:
    """Return True if nobody uses the memory of these GPUs. The CPU is always free."""
    return all(gpu.total - gpu.free < FREE_BYTES for gpu in list_gpus() if gpu.uuid in device.split(","))


def check_devices(cards: Sequence[WorkerCard]) -> str:
    """Return a sentence about the workers' GPUs. Raises `RuntimeError` if two workers share one."""
    if all(card.device == "cpu" for card in cards):
        return "all workers are on the CPU"
    gpus = [uuid for card in cards for uuid in card.device.split(",")]
    if "cpu" in gpus or len(set(gpus)) < len(gpus):
        raise RuntimeError(f"the workers do not hold GPUs of their own: {gpus}")
    return f"workers: {len(cards)}, GPUs: {len(gpus)}, none of them shared"
