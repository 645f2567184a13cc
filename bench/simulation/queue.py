"""A model's queue: waiting jobs, and workers with free slots."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from simpy import Environment

from bench.simulation.arrivals import Chat
from bench.simulation.engine import Engine
from bench.simulation.plan import Plan
from bench.simulation.server import Server
from bench.simulation.turns import Turns

__all__ = ["Job", "Queue", "Worker"]


@dataclass(slots=True)
class Job:
    chat: Chat
    api: Server
    #: Tokens that are left, the time at which the job began to wait, and the number of its attempt.
    tokens: float
    waits_since: float = 0.0
    attempt: int = 1
    #: The time at which its worker died.
    silent_since: float | None = None


class Worker:
    """A worker, its engine and its free slots."""

    def __init__(self, env: Environment, plan: Plan) -> None:
        self.engine = Engine(env, plan.speed.steps(plan.slots))
        self.free = plan.slots
        self.alive = True
        #: The time at which recovery takes its jobs, once it is dead.
        self.lapses_at = 0.0


class Queue:
    """The queue of a model: its waiting jobs, and its workers with free slots in the order of their turns.

    A worker that has fetched a message goes to the end, as in Redis, where it begins to wait anew.
    """

    def __init__(self, workers: Iterable[Worker]) -> None:
        self.turns: Turns[Job] = Turns()
        self.workers = list(workers)
        self.free = deque(self.workers)
        self.started = 0

    def next(self) -> tuple[Job, Worker] | None:
        """Return the next job and the worker that gets it, or None while no job waits or no slot is free."""
        while self.free and not self.free[0].alive:
            self.free.popleft()
        if not self.free or not self.turns:
            return None
        worker = self.free.popleft()
        worker.free -= 1
        if worker.free:
            self.free.append(worker)
        self.started += 1
        return self.turns.take(), worker

    def take_counts(self) -> tuple[int, int]:
        """Return how many jobs wait, and how many have started since the last call."""
        started, self.started = self.started, 0
        return len(self.turns), started

    def release(self, worker: Worker) -> None:
        """Free a slot of the worker."""
        if worker.alive:
            worker.free += 1
            if worker.free == 1:
                self.free.append(worker)

    def add(self, worker: Worker) -> None:
        """Add a new worker."""
        self.workers.append(worker)
        self.free.append(worker)
