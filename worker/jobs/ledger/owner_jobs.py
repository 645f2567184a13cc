"""The jobs of one owner in the order of their submission, for pages of them."""

from collections.abc import Iterator, Sequence
from typing import cast

from worker.jobs.errors import InvalidInput
from worker.jobs.ledger.store import RedisStore
from worker.jobs.records import JobState

__all__ = ["OwnerJobs"]

#: Jobs whose kind and state are read in one round trip.
WALKED = 200
#: A set with more jobs than this is not sorted.
SORTED = 1000


class OwnerJobs:
    """The jobs of one owner, newest first, from the one behind the job `after` on.

    The constructor raises `InvalidInput` if the owner has no job `after`.
    """

    def __init__(self, store: RedisStore, owner: str, after: str | None) -> None:
        self._store = store
        self._redis = store.client
        self._owner = owner
        self._index = store.key("owner", owner, "jobs")
        score = None if after is None else self._redis.zscore(self._index, after)
        if after is not None and score is None:
            raise InvalidInput("after", f"there is no job {after}")
        self._before = score

    def batches(self, size: int) -> Iterator[Sequence[str]]:
        """Yield the ids, `size` at a time."""
        before = self._before
        while True:
            first = "+inf" if before is None else f"({before:.0f}"
            found = self._redis.zrevrangebyscore(self._index, first, "-inf", 0, size, withscores=True)
            if not found:
                return
            jobs = cast("Sequence[tuple[str, float]]", found)
            yield [job_id for job_id, _ in jobs]
            before = jobs[-1][1]

    def matching(self, kind: str | None, state: JobState | None) -> Iterator[str]:
        """Yield the ids of the jobs of this kind and state. None stands for any."""
        few = None if state is None else self._few_in(state)
        for ids in self.batches(WALKED) if few is None else [few]:
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hmget(self._store.channel(job_id) + ":record", "kind", "state")
                found = pipe.execute() if ids else []
            for job_id, (its_kind, its_state) in zip(ids, found, strict=True):
                if its_kind and kind in (None, its_kind) and state in (None, its_state):
                    yield job_id

    def _few_in(self, state: JobState) -> Sequence[str] | None:
        """Return a few jobs that include all in this state, or None if they may be many."""
        sets = {"queued": ("waiting",), "running": ("active",)}.get(state, ("evicted", "ended"))
        keys = [self._store.key("owner", self._owner, name) for name in sets]
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.zcard(key) if key.endswith(":ended") else pipe.scard(key)
            if sum(pipe.execute()) > SORTED:
                return None
            for key in keys:
                pipe.zrange(key, 0, -1) if key.endswith(":ended") else pipe.smembers(key)
            ids = [job_id for found in pipe.execute() for job_id in found]
        ages = cast("Sequence[float | None]", self._redis.zmscore(self._index, ids)) if ids else []
        newest = self._before or float("inf")
        known = ((age, job_id) for age, job_id in zip(ages, ids, strict=True) if age is not None)
        return [job_id for age, job_id in sorted(known, reverse=True) if age < newest]
