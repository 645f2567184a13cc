"""The queues: their lengths, the dispatch of waiting jobs, and positions."""

from collections.abc import Iterator, Sequence
from typing import cast

from worker.jobs.errors import QueueNotFound
from worker.jobs.ledger.ledger import raise_if_full
from worker.jobs.ledger.store import RedisStore
from worker.jobs.records import QueueInfo

__all__ = ["Queues"]

#: Number of jobs at the head of a queue that get position events, and of those that one script looks at.
MAX_BROADCAST, BROADCAST_AT_ONCE = 1000, 50
#: The most jobs that one script dispatches (`DISPATCHED` in `queue.lua`).
DISPATCHED = 64


class Queues:
    """The queues, one for each served model. Their order is fair between the owners of jobs."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._redis = store.client
        self._scripts = store.scripts
        self._prefix = store.settings.prefix

    def _key(self, queue: str, part: str) -> str:
        return self._store.key("queue", queue, part)

    def names(self) -> Sequence[str]:
        """Return the names of the queues that have had a job or whose model was served, sorted."""
        jobs = cast("set[str]", self._redis.smembers(self._store.key("queues")))
        return sorted(jobs | set(cast("list[str]", self._redis.hkeys(self._store.key("models")))))

    def all_info(self) -> Iterator[QueueInfo]:
        """Yield the `QueueInfo` of every queue."""
        return map(self.info, self.names())

    def info(self, queue: str) -> QueueInfo:
        """Return the queue's numbers of waiting and running jobs and of slots, and its estimated wait."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self._key(queue, "waiting"))
            pipe.scard(self._key(queue, "running"))
            pipe.sismember(self._paused, queue)
            waiting, running, paused = pipe.execute()
        slots, wait = self._scripts.eval("load", self._prefix, queue)
        wait_s = float(wait) if wait else None
        cap = self._store.settings.max_waiting
        return QueueInfo(queue, waiting, running, slots, cap, wait_s, bool(paused))

    @property
    def _paused(self) -> str:
        return self._store.key("queues", "paused")

    def pause(self, queue: str) -> None:
        """Pause the queue: its jobs wait from now on, and no worker claims one. Running jobs go on.

        Raises `QueueNotFound`, and `NotReplicated` if a failover could undo it.
        """
        self._known(queue)
        self._store.replicas.run(lambda pipe: pipe.sadd(self._paused, queue))

    def resume(self, queue: str) -> None:
        """End the pause of the queue, if it is paused. Raises as `pause` does."""
        self._known(queue)
        self._store.replicas.run(lambda pipe: pipe.srem(self._paused, queue))

    def _known(self, queue: str) -> None:
        if queue not in self.names():
            raise QueueNotFound(f"there is no queue {queue}")

    def check_room(self, queue: str, owner: str = "", file_bytes: int = 0) -> None:
        """Raise `QueueFull` or `StorageFull` if the queue would refuse another job of the owner.

        `file_bytes` are the bytes of the job's uploaded files.
        """
        limits = self._store.settings
        args = *limits.caps, queue, owner, file_bytes
        outcome = self._scripts.eval("check_room", *self._store.common_args(""), *args)
        raise_if_full(outcome, queue, limits.max_waiting)

    def dispatch_jobs(self, queue: str) -> Sequence[str]:
        """Dispatch as many jobs as slots are free, in fair order, and return their ids.

        Their Celery messages are pushed with that. One call of the script dispatches a bounded number.
        """
        found: list[str] = []
        while True:
            found += (last := self._scripts.eval("dispatch", self._prefix, queue))
            if len(last) < DISPATCHED:
                return found

    def send_again(self, job_id: str) -> bool:
        """Push the Celery message of a waiting job again. Return False if there is no such job."""
        return bool(self._scripts.eval("send_again", *self._store.common_args(job_id)))

    def broadcast_positions(self, queue: str) -> None:
        """Log a `queued` event for each waiting job whose position has changed.

        Only the first `MAX_BROADCAST` jobs of the queue get one.
        """
        common, all_told = self._store.common_args(""), True
        told = None
        for first in range(1, MAX_BROADCAST + 1, BROADCAST_AT_ONCE):
            places = first, first + BROADCAST_AT_ONCE - 1
            reply = self._scripts.eval("broadcast_positions", *common, queue, *places)
            if not reply:
                return
            version, postponed, more = reply
            told = told or version  # what changes between two calls is for the next broadcast
            all_told = all_told and not postponed
            if not more:
                break
        if all_told:
            self._redis.hset(self._key(queue, "fair"), "told", told)

    def dispatched_before(self, queue: str, time_s: float, now: float) -> Sequence[str]:
        """Return the jobs that were dispatched before this time and are not claimed yet.

        Times are those of Redis, where it is `now`. A job that was dispatched later than `now` is returned,
        too: the clock of Redis has been set back since.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            for start, end in (("-inf", time_s), (f"({now}", "+inf")):
                pipe.zrange(self._key(queue, "called"), start, end, byscore=True)
            before, after = pipe.execute()
        return cast("list[str]", before + after)

    def drop_messages(self) -> None:
        """Delete the Celery messages of queues in which no job is dispatched."""
        self._scripts.eval("drop_messages", self._prefix)

    def drop_dispatched(self, queue: str, job_id: str) -> None:
        """Remove an id from the queue whose record Redis has lost."""
        self._scripts.eval("drop_dispatched", self._prefix, "", "", "", job_id, queue)
