"""The measurement of what operations cost Redis: Stoker's own scripts, on a server that does nothing else."""

import time
import uuid
from collections.abc import Callable, Collection, Sequence
from itertools import cycle
from typing import Any, TypeVar

from bench.processes import scripted_settings
from bench.simulation.costs import Costs, Linear
from bench.simulation.ledger_load import CHAT, QUEUE, Listener, Log, worker_card
from worker.jobs.broker import messages_key
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings

__all__ = ["measure_ledger"]

T = TypeVar("T")

#: Jobs of each measurement, and how often it is repeated. The cheapest repetition counts.
JOBS, ROUNDS = 128, 5
#: Jobs of an append with many of them, and how many of these follow each other.
TOGETHER, APPENDS = 64, 16
#: The numbers of workers.
FEW, MANY = 1, 1000
#: Seconds in which one process takes a round of recovery.
LOOK_S = 0.9


def measure_ledger() -> Costs:
    """Return the costs of Redis, apart from those of idle processes."""
    limits = {"max_waiting": 10**6, "max_waiting_per_key": 10**6, "max_kept_bytes": 2**40}
    with scripted_settings(lease_ttl_s=3600, **limits) as settings:
        few, many = (_Measurement(settings, workers).found for workers in (FEW, MANY))

    def line(name: str) -> Linear:
        return Linear.through((FEW, few[name]), (MANY, many[name]))

    append = Linear.through((1, few["append"]), (TOGETHER, few["append_many"]))
    return Costs(
        submit=line("submit"),
        message=few["message"],
        claim=few["claim"],
        append=append,
        publish=max(0.0, few["append_heard"] - few["append_many"]) / TOGETHER,
        end=line("end"),
        stream=few["stream"],
        requeue=line("requeue"),
        forget=few["forget"],
        renew=many["renew"],
        look=line("look"),
        dispatch=line("dispatch"),
        place=few["place"],
        event_in_bytes=few["event_in_bytes"],
        event_out_bytes=few["event_out_bytes"],
        lease_bytes=(many["look_bytes"] - few["look_bytes"]) / (MANY - FEW),
        job_bytes=few["job_bytes"],
        logged_bytes=few["logged_bytes"],
    )


class _Measurement:
    """The costs with so many workers, by name: CPU seconds of Redis' main thread, or bytes."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self.found: dict[str, float] = {}
        self._store = RedisStore(settings)
        self._redis: Any = self._store.client
        self._dispatcher, self._queues = Dispatcher(self._store), Queues(self._store)
        self._ledger, self._registry = self._dispatcher.ledger, Registry(self._store)
        self._messages = messages_key(settings, QUEUE)
        self._cards = [worker_card(number, max(1, 2 * JOBS // workers)) for number in range(workers)]
        for card in self._cards:
            self._registry.renew(card)
        for _ in range(ROUNDS):
            self._measure_upkeep()
            self._measure_chats()
        for card in self._cards:
            self._registry.release(card.name)
        self._measure_places()
        self._store.close()

    def _measure_upkeep(self) -> None:
        self._each("renew", self._registry.renew, self._cards)
        sent = self._stat("total_net_output_bytes")
        self._each("look", lambda _: self._registry.look(LOOK_S), range(50))
        self._note("look_bytes", (self._stat("total_net_output_bytes") - sent) / 50)
        self._each("dispatch", lambda _: self._dispatcher.dispatch_next(QUEUE), range(50))

    def _measure_chats(self) -> None:
        """Run chats from their submit to their deletion."""
        jobs, workers = [uuid.uuid4().hex for _ in range(JOBS)], cycle(card.name for card in self._cards)
        self._each("submit", lambda job: self._dispatcher.submit(job, QUEUE, CHAT), jobs)
        self._each("message", lambda _: self._redis.brpop([self._messages], 1), jobs)
        logs: list[Log] = []

        def claim(job: str) -> None:
            record = self._dispatcher.ledger.claim(job, next(workers), "GPU-0")
            assert record, "the job was not dispatched"
            logs.append(Log(record))

        self._each("claim", claim, jobs)
        self._each("append", lambda log: self._dispatcher.append([log.token()]), logs)
        self._measure_appends(logs[:TOGETHER])
        self._each("stream", self._follow, jobs)
        ended, returned = logs[JOBS // 2 :], logs[: JOBS // 2]
        self._each("end", lambda log: self._dispatcher.append([log.end()]), ended)
        self._each("requeue", self._requeue, returned)
        for job in jobs[: JOBS // 2]:
            self._ledger.cancel(job)
        self._each("forget", self._ledger.forget, jobs)

    def _measure_appends(self, logs: Sequence[Log]) -> None:
        """Append an event to each of these jobs in one call, without subscribers and with one for each."""

        def append(_: int) -> None:
            self._dispatcher.append([log.token() for log in logs])

        events = APPENDS * len(logs)
        received = self._stat("total_net_input_bytes")
        self._each("append_many", append, range(APPENDS))
        self._note("event_in_bytes", (self._stat("total_net_input_bytes") - received) / events)
        with Listener(self._store, [self._store.channel(log.record.id) for log in logs]):
            sent = self._stat("total_net_output_bytes")
            self._each("append_heard", append, range(APPENDS))
            self._note("event_out_bytes", (self._stat("total_net_output_bytes") - sent) / events)
        log = self._store.channel(logs[0].record.id) + ":events"
        self._note("logged_bytes", self._redis.memory_usage(log, samples=0) / self._redis.xlen(log))

    def _follow(self, job: str) -> None:
        with self._redis.pubsub() as pubsub:
            pubsub.subscribe(self._store.channel(job))
            self._ledger.get(job)
            self._ledger.events(job)
            pubsub.unsubscribe()

    def _requeue(self, log: Log) -> None:
        self._dispatcher.requeue(log.record.id, log.record.worker or "", "drain")

    def _measure_places(self) -> None:
        """Fill a queue without workers, and tell its jobs their places."""
        jobs, memory = [uuid.uuid4().hex for _ in range(1000)], self._memory()
        for job in jobs:
            self._ledger.submit(job, QUEUE, CHAT)
        self._note("job_bytes", (self._memory() - memory) / len(jobs))
        time.sleep(1.1)  # no job is told its place twice in a second
        for job in jobs[:200]:
            self._ledger.cancel(job)
        told = self._calls("xadd")
        before = self._cpu_s()
        self._queues.broadcast_positions(QUEUE)
        self._note("place", (self._cpu_s() - before) / (self._calls("xadd") - told))
        for job in jobs:
            self._ledger.cancel(job)
        self._ledger.forget_all(jobs)

    def _each(self, name: str, call: Callable[[T], object], items: Collection[T]) -> None:
        """Call with each item, and note the CPU time of Redis per call."""
        before = self._cpu_s()
        for item in items:
            call(item)
        self._note(name, (self._cpu_s() - before) / len(items))

    def _note(self, name: str, cost: float) -> None:
        self.found[name] = min(cost, self.found.get(name, cost))

    def _cpu_s(self) -> float:
        info = self._redis.info("cpu")
        return float(info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])

    def _memory(self) -> float:
        return float(self._redis.info("memory")["used_memory"])

    def _stat(self, name: str) -> float:
        return float(self._redis.info("stats")[name])

    def _calls(self, command: str) -> int:
        return int(self._redis.info("commandstats")[f"cmdstat_{command}"]["calls"])
