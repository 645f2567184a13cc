"""The figures of a simulated time."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.simulation.engine import Engine
from bench.simulation.plan import Plan
from bench.simulation.server import Server

__all__ = ["Figures", "Second", "pair"]


class Second(NamedTuple):
    """A second of the simulation.

    The first fields are sums since the start: CPU time and round trips of Redis, CPU time of the API, chats
    and their tokens. `events` and `told` are the token events and the places of this second. The others are
    numbers at its end: GPUs with a chat, running chats, open streams, and waiting chats.
    """

    redis_s: float
    round_trips: float
    api_s: float
    chats: int
    tokens: int
    events: float
    told: float
    busy: int
    running: int
    open: int
    waiting: int


class Figures:
    """Collects what happens in a simulation, and computes its figures. Times are in seconds."""

    def __init__(self, plan: Plan, redis: Server, apis: Sequence[Server]) -> None:
        self.plan, self.redis, self.apis = plan, redis, apis
        self.waits: list[float] = []
        self.firsts: list[float] = []
        #: The silences of streams whose worker died.
        self.gaps: list[float] = []
        #: The times from the submission of chats to their ends.
        self.stays: list[float] = []
        self.seconds: list[Second] = []
        self.tokens = 0
        #: Events in the logs of all jobs.
        self.logged = 0.0
        self._busy_s = self._chat_s = 0.0

    def add_end(self, stay_s: float, tokens: int) -> None:
        """Add a chat that has ended."""
        self.stays.append(stay_s)
        self.tokens += tokens

    def add_worker(self, engine: Engine) -> None:
        """Add the work of a worker's engine, once, when the worker ends."""
        self._busy_s += engine.busy_s
        self._chat_s += engine.chat_s

    def add_second(self, events: float, told: float, *levels: int) -> None:
        """Add a second that is over."""
        self.logged += events + told
        trips, api_s = sum(self.redis.round_trips.values()), sum(api.total_s for api in self.apis)
        self.seconds.append(
            Second(self.redis.total_s, trips, api_s, len(self.stays), self.tokens, events, told, *levels)
        )

    @property
    def slots(self) -> int:
        """The slots of all workers."""
        return sum(self.plan.workers) * self.plan.slots

    @property
    def busy_gpus(self) -> float:
        """The share of the time in which a GPU has a chat."""
        return self._busy_s / self.plan.seconds / sum(self.plan.workers)

    @property
    def busy_slots(self) -> float:
        """The share of slots that hold a chat."""
        return self._chat_s / self.plan.seconds / self.slots

    @property
    def mean_chats(self) -> float:
        """The mean number of chats that engines run."""
        return self._chat_s / self.plan.seconds

    @property
    def redis_shares(self) -> Mapping[str, float]:
        """The share of Redis' thread that each operation takes, the largest first."""
        shares = {name: cpu_s / self.plan.seconds for name, cpu_s in self.redis.cpu_s.items()}
        return dict(sorted(shares.items(), key=lambda each: -each[1]))

    def rate(self, name: str, busiest: bool = False) -> float:
        """Return how much a counter of `Second` grows per second, on average or in the busiest minute."""
        values = np.array([getattr(second, name) for second in self.seconds])
        if not busiest or len(values) <= 60:
            return float(values[-1] / len(values))
        return float((values[60:] - values[:-60]).max() / 60)

    def level(self, name: str, busiest: bool = False) -> float:
        """Return a number of `Second`, on average or in the second in which it was largest."""
        values = np.array([getattr(second, name) for second in self.seconds])
        return float(values.max() if busiest else values.mean())


def pair(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile; 0 if there are no values."""
    if not values:
        return 0.0, 0.0
    median, high = np.percentile(values, [50, 99])
    return float(median), float(high)
