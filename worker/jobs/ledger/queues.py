"""The queues: who waits for which model's slots, who is next, and how long it takes."""

from collections.abc import Iterator, Sequence
from typing import cast

from worker.jobs.ledger.ledger import Ledger, check_room
from worker.jobs.records import QueueInfo

__all__ = ["Queues"]

#: How many of a queue's first jobs are told their places.
MAX_BROADCAST = 1000


class Queues:
    """The ledger's queues; each has its model's jobs, in an order that is fair between their owners."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._redis = ledger.redis
        self._scripts = ledger.scripts
        self._prefix = ledger.settings.prefix

    def _key(self, queue: str, part: str) -> str:
        return self.ledger.key("queue", queue, part)

    def names(self) -> Sequence[str]:
        """The queues that have had a job or have a worker's model."""
        jobs = cast("set[str]", self._redis.smembers(self.ledger.key("queues")))
        return sorted(jobs | set(cast("list[str]", self._redis.hkeys(self.ledger.key("models")))))

    def all(self) -> Iterator[QueueInfo]:
        """Every queue as it is now."""
        return map(self.get, self.names())

    def get(self, name: str) -> QueueInfo:
        """The queue as it is now."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self._key(name, "waiting"))
            pipe.scard(self._key(name, "running"))
            waiting, running = pipe.execute()
        slots, wait = self._scripts.eval("wait", self._prefix, name)
        wait_s = float(wait) if wait else None
        return QueueInfo(name, waiting, running, slots, self.ledger.settings.max_waiting, wait_s)

    def check_room(self, queue: str, owner: str = "") -> None:
        """Raise `QueueFull` if no more jobs may wait there, or of this owner."""
        empty = ("",) * 4
        most = self.ledger.settings.max_waiting
        check_room(self._scripts.eval("room", self._prefix, *empty, queue, owner, most), queue, most)

    def dispatch(self, queue: str) -> Sequence[str]:
        """The jobs to hint at now: as many as slots are free, fairly between owners."""
        return cast(Sequence[str], self._scripts.eval("call", self._prefix, queue))

    def broadcast_positions(self, queue: str) -> None:
        """Tell the jobs that wait their places, where these have changed."""
        self._scripts.eval("announce", *self.ledger.common_args(""), queue, MAX_BROADCAST)

    def dispatched_before(self, queue: str, time_s: float) -> Sequence[str]:
        """Jobs that were called before then (Redis' clock) and that no worker has claimed yet."""
        called = self._key(queue, "called")
        return cast(Sequence[str], self._redis.zrange(called, "-inf", time_s, byscore=True))

    def drop_dispatched(self, queue: str, job_id: str) -> None:
        """Take an id off the queue that is no job's."""
        self._scripts.eval("drop", self._prefix, "", "", "", job_id, queue)
