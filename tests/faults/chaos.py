"""Chaos: a seeded script of faults against a cluster, and the record of what it did when."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from tests.faults.cluster import AGAIN_S, Cluster, Kept
from tests.support.stack import eventually
from worker.jobs.ledger.registry import Registry

__all__ = ["REDIS_FAULTS", "Blow", "Chaos"]

REDIS_FAULTS = ("cut connections", "restart redis", "kill redis", "stall redis")
#: Before the second of two SIGTERMs.
IMPATIENCE_S = 0.3


@dataclass(slots=True)
class Blow:
    """One fault; times are seconds since the epoch."""

    name: str
    at: float
    until: float = 0.0
    #: The worker that was hit.
    pid: int = 0
    #: Whether another worker was ready to go on with its jobs.
    relieved: bool = False


class Chaos:
    """Deals a shuffled deck of faults, one after the other, with pauses of random length."""

    def __init__(
        self, cluster: Cluster, deck: Mapping[str, int], pause_s: tuple[float, float], rng: random.Random
    ) -> None:
        self.blows: list[Blow] = []
        self._cluster = cluster
        self._registry = Registry(cluster.ledger)
        self._rng = rng
        self._deck = rng.sample(list(deck), sum(deck.values()), counts=list(deck.values()))
        self._pause_s = pause_s
        self._pause = threading.Event()
        self._faults: dict[str, Callable[[Blow], None]] = {
            "kill worker": self._kill_worker,
            "freeze worker": self._freeze_worker,
            "drain worker": self._drain_worker,
            "hurry worker": self._hurry_worker,
            "kill api": self._kill_api,
            "cut connections": self._cut_connections,
            "restart redis": self._restart_redis,
            "kill redis": self._kill_redis,
            "stall redis": self._stall_redis,
        }

    def run(self) -> None:
        """Deal the whole deck."""
        for name in self._deck:
            self._wait(*self._pause_s)
            blow = Blow(name, time.time())
            self._faults[name](blow)
            blow.until = time.time()
            self.blows.append(blow)

    def counts(self) -> Mapping[str, int]:
        """How many faults of each name there were."""
        return Counter(blow.name for blow in self.blows)

    def _wait(self, least_s: float, most_s: float) -> None:
        self._pause.wait(self._rng.uniform(least_s, most_s))

    def _warm(self) -> Sequence[int]:
        """The pids of the workers that take jobs; none while Redis is away."""
        try:
            return [card.pid for card in self._registry.workers() if card.state == "ready"]
        except RedisError:
            return []

    def _victim(self, blow: Blow) -> Kept:
        """A random worker, as soon as it is warm: else the faults would mostly hit starting ones."""
        name = self._rng.choice(sorted(self._cluster.workers))
        kept = self._cluster.workers[name]
        eventually(lambda: kept.pid in self._warm(), f"{name}, warm again: {kept.last_words()}")
        kind = name.partition("-")[0]
        others = {worker.pid for key, worker in self._cluster.workers.items() if key.startswith(kind)}
        blow.relieved = bool(others.intersection(self._warm()) - {kept.pid})
        blow.at, blow.pid = time.time(), kept.pid
        return kept

    def _kill_worker(self, blow: Blow) -> None:
        self._victim(blow).signal(signal.SIGKILL)

    def _freeze_worker(self, blow: Blow) -> None:
        """For longer than its lease, so that it wakes up with jobs that are not its own any more."""
        lease_s = self._cluster.settings.lease_ttl_s
        kept = self._victim(blow)
        kept.signal(signal.SIGSTOP)
        self._wait(1.2 * lease_s, 2.5 * lease_s)
        kept.signal(signal.SIGCONT)

    def _drain_worker(self, blow: Blow) -> None:
        self._victim(blow).signal(signal.SIGTERM)

    def _hurry_worker(self, blow: Blow) -> None:
        """Two SIGTERMs: hand everything back at once."""
        kept = self._victim(blow)
        kept.signal(signal.SIGTERM)
        self._pause.wait(IMPATIENCE_S)
        kept.signal(signal.SIGTERM)

    def _kill_api(self, blow: Blow) -> None:
        self._cluster.web.signal(signal.SIGKILL)

    def _cut_connections(self, blow: Blow) -> None:
        for kind in ("normal", "pubsub"):
            self._cluster.ledger.redis.execute_command("CLIENT", "KILL", "TYPE", kind)  # type: ignore[no-untyped-call]

    def _restart_redis(self, blow: Blow) -> None:
        self._redis_down(signal.SIGTERM, 3.0)

    def _kill_redis(self, blow: Blow) -> None:
        self._redis_down(signal.SIGKILL, 1.0)

    def _redis_down(self, number: signal.Signals, most_s: float) -> None:
        redis = self._cluster.redis
        gone = redis.pid
        redis.again_s = self._rng.uniform(AGAIN_S, most_s)
        redis.signal(number)
        eventually(lambda: redis.pid != gone and self._cluster.redis_answers(), "Redis again")

    def _stall_redis(self, blow: Blow) -> None:
        self._cluster.redis.signal(signal.SIGSTOP)
        self._wait(0.5, 2 * self._cluster.settings.lease_ttl_s)
        self._cluster.redis.signal(signal.SIGCONT)
