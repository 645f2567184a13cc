"""The load of Redis and of the API that is not simulated one by one: events of tokens, and upkeep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bench.simulation.costs import Costs
from bench.simulation.plan import Plan
from bench.simulation.server import MOST

__all__ = ["Background", "Flush", "Work"]

#: The pause of the outbox after an append that took t seconds of CPU time is COALESCE * t. It is at least as
#: long as the append, and at most COALESCE_MAX_S.
COALESCE, COALESCE_MAX_S = 12.0, 0.25
#: The processes that watch the leases of all workers, and the seconds between two looks of each.
WATCHERS, LOOK_S = 8, 1.0
#: The places that recovery tells: those of the first jobs of a queue. Beyond the first TOLD_ALWAYS, a place
#: is told when it has changed by a twentieth.
TOLD_MOST, TOLD_ALWAYS, TOLD_PART = 1000, 20, 20
#: Halvings of the interval in which the share of Redis' thread lies.
HALVINGS = 12


class Work(NamedTuple):
    """What one kind of work takes of Redis per second: share of its thread, and round trips."""

    share: float
    round_trips: float


@dataclass(frozen=True, slots=True)
class Flush:
    """The appends of one worker: seconds between two of them, and the events of each."""

    every_s: float
    events: int


class Background:
    """What all processes of the plan do to Redis in the background."""

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self._plan, self._costs = plan, costs
        self._steps = plan.speed.steps(plan.slots)
        self._workers = sum(plan.workers)
        self._looks = min(WATCHERS, self._workers + plan.api_processes) / LOOK_S

    def flush(self, at_once: int, load: float) -> Flush:
        """Return the appends of a worker with so many chats, while Redis' thread has this load.

        An append brings the events of all chats of the worker. There is one for each step, or fewer if the
        outbox pauses. So a busy Redis gets fewer appends, with more tokens in each event.
        """
        costs = self._costs
        redis_s = costs.append.at(at_once) + costs.publish * at_once
        cpu_s = costs.worker_event * at_once
        took_s = self._plan.round_trip_s + cpu_s + redis_s / (1 - load)
        pause_s = min(max(COALESCE * cpu_s, took_s), COALESCE_MAX_S)
        return Flush(max(self._steps[at_once], took_s + pause_s), at_once)

    def appends(self, workers: Mapping[int, int], load: float) -> tuple[Work, float]:
        """Return the work of the appends of all workers, and the events per second.

        `workers` has the number of workers by the number of chats that each of them runs.
        """
        costs, trips, events = self._costs, 0.0, 0.0
        for at_once, count in workers.items():
            flush = self.flush(at_once, load)
            trips += count / flush.every_s
            events += count * flush.events / flush.every_s
        return Work(costs.append.base * trips + costs.append.slope * events, trips), events

    def balance(self, workers: Mapping[int, int], others: float) -> float:
        """Return the share of Redis' thread at which it can do all its work.

        `others` is the share of everything but appends. Workers append more rarely if an append takes longer,
        so the share at which they keep each other busy is found by bisection. It is `MOST` at most.
        """
        low, high = 0.0, MOST
        for _ in range(HALVINGS):
            load = (low + high) / 2
            if others + self.appends(workers, load)[0].share > load:
                low = load
            else:
                high = load
        return high

    def upkeep(self) -> Mapping[str, Work]:
        """Return the work that does not depend on chats, by name."""
        costs, plan, workers = self._costs, self._plan, self._workers
        idle = costs.idle_worker * workers + costs.idle_api * plan.api_processes
        trips = costs.idle_worker_trips * workers + costs.idle_api_trips * plan.api_processes
        queues = len(plan.models)
        return {
            # The measured processes look at leases, too. Only what grows with more workers is added.
            "idle processes": Work(idle, trips),
            "looks at leases": Work(costs.look.slope * workers * self._looks, 0.0),
            "rounds of queues": Work(costs.dispatch.at(workers) * queues, queues),
        }

    def upkeep_bytes(self) -> float:
        """Return the bytes per second that all looks at the leases take from Redis."""
        return self._costs.lease_bytes * self._workers * self._looks

    def places(self, told: float) -> Work:
        """Return the work of telling so many waiting jobs their places per second."""
        return Work(self._costs.place * told, 0.0)


def places_told(waiting: int, starts_s: float) -> float:
    """Return how many jobs of a queue are told their place in a second.

    A job is told it at most once a second. Place p changes by a twentieth p/20/`starts_s` seconds after the
    last time. The sum over the places is 20 `starts_s` times the logarithm of their ratio.
    """
    if starts_s <= 0:
        return 0.0
    count = min(waiting, TOLD_MOST)
    each_second = min(count, max(TOLD_ALWAYS * min(1.0, starts_s), TOLD_PART * starts_s))
    rest = TOLD_PART * starts_s * math.log(count / each_second) if count > each_second else 0.0
    return each_second + rest
