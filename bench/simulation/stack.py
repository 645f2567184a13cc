"""A real stack of processes, whose workers have a scripted engine."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import psutil

from bench.processes import running_process, scripted_argv, scripted_settings
from tests.support.stack import eventually
from webapi.local.commands import web_argv
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings

__all__ = ["Reading", "Stack", "running_stack"]


class Reading(NamedTuple):
    """What Redis has done: CPU time of its main thread, round trips, and logged events."""

    cpu_s: float
    round_trips: float
    events: float

    def since(self, before: "Reading") -> "Reading":
        """Return what Redis has done since the other reading."""
        return Reading(*(now - then for now, then in zip(self, before, strict=True)))

    def per_second(self, seconds: float) -> "Reading":
        """Return what Redis has done in one of so many seconds."""
        return Reading(*(value / seconds for value in self))


class Stack:
    """Redis, one API process and workers, which end with the block of `exits`."""

    def __init__(self, exits: ExitStack, app: str, slots: int) -> None:
        self._exits, self._app = exits, app
        self.settings: Settings = exits.enter_context(scripted_settings(slots=slots, max_waiting=10**6))
        self.store = RedisStore(self.settings)
        self._redis: Any = self.store.client
        self.processes: dict[str, psutil.Process] = {"API": self._start(web_argv(self.settings), "web")}

    def start_workers(self, number: int) -> None:
        """Start so many more workers, and wait until all are ready."""
        argv = scripted_argv(self._app, self.settings)
        for _ in range(number):
            name = f"worker {len(self.processes)}"
            node = [f"{part}-{name[7:]}" if part.endswith("@%h") else part for part in argv]
            self.processes[name] = self._start(node, name)
        registry, workers = Registry(self.store), len(self.processes) - 1
        eventually(
            lambda: sum(card.state == "ready" for card in registry.workers()) == workers, "ready workers", 120
        )

    def read(self) -> Reading:
        """Return what Redis has done so far."""
        info = self._redis.info("everything")
        cpu_s = info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]
        return Reading(cpu_s, info["total_reads_processed"], info.get("cmdstat_xadd", {"calls": 0})["calls"])

    def connections(self) -> int:
        """Return the number of connections to Redis, without that of this object."""
        return int(self._redis.info("clients")["connected_clients"]) - 1

    def _start(self, argv: list[str], name: str) -> psutil.Process:
        log = self.settings.home_dir / f"{name}.log"
        return self._exits.enter_context(running_process(argv, self.settings, log))


@contextmanager
def running_stack(app: str, slots: int, workers: int) -> Iterator[Stack]:
    """Run a stack whose workers are this Celery app."""
    with ExitStack() as exits:
        stack = Stack(exits, app, slots)
        stack.start_workers(workers)
        yield stack
