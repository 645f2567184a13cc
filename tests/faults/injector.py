"""The injector: it runs a random schedule of faults against a cluster, and records each fault."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from redis.exceptions import RedisError

from tests.support.cluster import RESTART_DELAY_S, Cluster, ManagedProcess
from tests.support.stack import eventually
from worker.jobs.ledger.registry import Registry

__all__ = ["REDIS_FAULTS", "Fault", "FaultInjector", "FaultKind"]


class FaultKind(StrEnum):
    """The faults. The values are the words of the report."""

    KILL_WORKER = "killed workers"
    KILL_CLAIMING_WORKER = "workers killed while their claims waited"
    FREEZE_WORKER = "frozen workers"
    DRAIN_WORKER = "drained workers"
    SIGNAL_WORKER_TWICE = "workers with a second signal"
    KILL_API = "killed APIs"
    CUT_CONNECTIONS = "cut connections"
    RESTART_REDIS = "restarts"
    KILL_REDIS = "kills"
    STALL_REDIS = "stalls"
    KILL_PRIMARY = "killed primaries"
    STOP_PRIMARY = "stopped primaries"


REDIS_FAULTS = (
    FaultKind.CUT_CONNECTIONS,
    FaultKind.RESTART_REDIS,
    FaultKind.KILL_REDIS,
    FaultKind.STALL_REDIS,
    FaultKind.KILL_PRIMARY,
    FaultKind.STOP_PRIMARY,
)
#: Seconds between two SIGTERMs to a worker.
SECOND_SIGNAL_S = 0.3


@dataclass(slots=True)
class Fault:
    """One fault that was injected. Times are in seconds since the epoch."""

    kind: FaultKind
    began: float
    ended: float = 0.0
    #: The pid of the worker that was hit.
    pid: int = 0
    #: Whether another worker was ready to continue the jobs of the worker that was hit.
    had_standby: bool = False


class FaultInjector:
    """Injects the faults in random order, one after another, with random pauses between them.

    `counts` says how often each kind of fault comes, and `pause_s` is the shortest and the longest pause.
    """

    def __init__(
        self,
        cluster: Cluster,
        counts: Mapping[FaultKind, int],
        pause_s: tuple[float, float],
        rng: random.Random,
    ) -> None:
        self.injected: list[Fault] = []
        self._cluster = cluster
        self._registry = Registry(cluster.ledger.store)
        self._rng = rng
        self._schedule = rng.sample(list(counts), sum(counts.values()), counts=list(counts.values()))
        self._pause_s = pause_s
        self._pause = threading.Event()
        self._inject: dict[FaultKind, Callable[[Fault], None]] = {
            FaultKind.KILL_WORKER: self._kill_worker,
            FaultKind.KILL_CLAIMING_WORKER: self._kill_claiming_worker,
            FaultKind.FREEZE_WORKER: self._freeze_worker,
            FaultKind.DRAIN_WORKER: self._drain_worker,
            FaultKind.SIGNAL_WORKER_TWICE: self._signal_worker_twice,
            FaultKind.KILL_API: self._kill_api,
            FaultKind.CUT_CONNECTIONS: self._cut_connections,
            FaultKind.RESTART_REDIS: self._restart_redis,
            FaultKind.KILL_REDIS: self._kill_redis,
            FaultKind.STALL_REDIS: self._stall_redis,
            FaultKind.KILL_PRIMARY: self._kill_primary,
            FaultKind.STOP_PRIMARY: self._stop_primary,
        }

    def inject_all(self) -> None:
        """Run the whole schedule."""
        for kind in self._schedule:
            self._wait(*self._pause_s)
            fault = Fault(kind, time.time())
            self._inject[kind](fault)
            fault.ended = time.time()
            self.injected.append(fault)

    def counts(self) -> Mapping[FaultKind, int]:
        """Count the faults that were injected, by kind."""
        return Counter(fault.kind for fault in self.injected)

    def _wait(self, min_s: float, max_s: float) -> None:
        self._pause.wait(self._rng.uniform(min_s, max_s))

    def _ready_pids(self) -> Sequence[int]:
        """Return the pids of the workers that accept jobs, or none while Redis is away."""
        try:
            return [card.pid for card in self._registry.workers() if card.state == "ready"]
        except RedisError:
            return []

    def _choose_worker(self, fault: Fault) -> ManagedProcess:
        """Choose a random worker, wait until it is ready, and record it in the fault.

        Without the wait, most faults would hit workers that are starting.
        """
        name = self._rng.choice(sorted(self._cluster.workers))
        chosen = self._cluster.workers[name]
        eventually(lambda: chosen.pid in self._ready_pids(), f"{name}, ready again: {chosen.log_tail()}")
        kind = name.partition("-")[0]
        same_kind = {worker.pid for key, worker in self._cluster.workers.items() if key.startswith(kind)}
        fault.had_standby = bool(same_kind.intersection(self._ready_pids()) - {chosen.pid})
        fault.began, fault.pid = time.time(), chosen.pid
        return chosen

    def _kill_worker(self, fault: Fault) -> None:
        self._choose_worker(fault).signal(signal.SIGKILL)

    def _kill_claiming_worker(self, fault: Fault) -> None:
        """Kill a worker whose engine has chats while their claims wait in a Redis that has stopped.

        Redis makes the claims afterwards, for a worker that is dead.
        """
        worker, redis = self._choose_worker(fault), self._cluster.redis_processes["redis"]
        redis.signal(signal.SIGSTOP)
        self._wait(0.1, 0.5)
        worker.signal(signal.SIGKILL)
        redis.signal(signal.SIGCONT)

    def _freeze_worker(self, fault: Fault) -> None:
        """Stop a worker for longer than its lease, so that other workers own its jobs when it continues."""
        lease_s = self._cluster.settings.lease_ttl_s
        worker = self._choose_worker(fault)
        worker.signal(signal.SIGSTOP)
        self._wait(1.2 * lease_s, 2.5 * lease_s)
        worker.signal(signal.SIGCONT)

    def _drain_worker(self, fault: Fault) -> None:
        self._choose_worker(fault).signal(signal.SIGTERM)

    def _signal_worker_twice(self, fault: Fault) -> None:
        """Send a second SIGTERM, which makes the worker hand back all its jobs at once."""
        worker = self._choose_worker(fault)
        worker.signal(signal.SIGTERM)
        self._pause.wait(SECOND_SIGNAL_S)
        worker.signal(signal.SIGTERM)

    def _kill_api(self, fault: Fault) -> None:
        self._cluster.web.signal(signal.SIGKILL)

    def _cut_connections(self, fault: Fault) -> None:
        for kind in ("normal", "pubsub"):
            self._cluster.ledger.store.client.execute_command("CLIENT", "KILL", "TYPE", kind)  # type: ignore[no-untyped-call]

    def _restart_redis(self, fault: Fault) -> None:
        self._end_redis(signal.SIGTERM, 3.0)

    def _kill_redis(self, fault: Fault) -> None:
        self._end_redis(signal.SIGKILL, 1.0)

    def _end_redis(self, number: signal.Signals, max_down_s: float) -> None:
        """End Redis by this signal, and wait until it has been started again."""
        redis = self._cluster.redis_processes["redis"]
        old_pid = redis.pid
        redis.restart_delay_s = self._rng.uniform(RESTART_DELAY_S, max_down_s)
        redis.signal(number)
        eventually(lambda: redis.pid != old_pid and self._cluster.redis_answers(), "Redis again")

    def _stall_redis(self, fault: Fault) -> None:
        redis = self._cluster.redis_processes["redis"]
        redis.signal(signal.SIGSTOP)
        self._wait(0.5, 2 * self._cluster.settings.lease_ttl_s)
        redis.signal(signal.SIGCONT)

    def _kill_primary(self, fault: Fault) -> None:
        """Kill the primary, and start it again when the Sentinels have promoted a replica."""
        self._fail_over(fault, signal.SIGKILL)

    def _stop_primary(self, fault: Fault) -> None:
        """Stop the primary. It continues after the failover, and then still thinks that it is the primary."""
        primary = self._fail_over(fault, signal.SIGSTOP)
        self._wait(0.0, 4.0)
        primary.signal(signal.SIGCONT)

    def _fail_over(self, fault: Fault, number: signal.Signals) -> ManagedProcess:
        """Send the signal to the primary when it has two replicas. Wait until another server is primary."""
        group = self._cluster.group
        assert group is not None
        eventually(group.is_healthy, "a primary with two replicas")
        old = eventually(group.primary, "a primary")
        primary = self._cluster.redis_processes[str(old)]
        primary.may_restart.clear()  # Sentinels whose votes are split need another round
        fault.began = time.time()
        primary.signal(number)
        eventually(lambda: group.primary() not in (None, old), "another primary")
        primary.may_restart.set()
        return primary
