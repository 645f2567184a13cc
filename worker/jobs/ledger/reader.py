"""The reading half of the ledger: job records, pages of jobs, and event logs."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

from redis.client import Pipeline

from worker.jobs.errors import JobNotFound, NotReplicated
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.owner_jobs import OwnerJobs
from worker.jobs.ledger.replicas import AddCommands
from worker.jobs.ledger.store import RedisStore
from worker.jobs.records import JobState, Record

__all__ = ["LedgerReader"]


#: Jobs that recovery cleans up in one round.
_AT_ONCE = 5000


class LedgerReader:
    """The job records and event logs in Redis, read only.

    With `replicated`, `events` and `get` return only what a failover keeps, for clients: no later answer then
    contradicts it. Methods raise `redis.exceptions.RedisError` if Redis cannot be reached.
    """

    def __init__(self, store: RedisStore, *, replicated: bool = False) -> None:
        self.store = store
        self._replicated = replicated
        self._redis = store.client
        self._scripts = store.scripts

    def has_job_for(self, owner: str, key: str) -> bool:
        """Return whether a request of the owner with this idempotency key has made a job."""
        return bool(self._redis.exists(self._idempotency_redis_key(owner, key)))

    def job_for(self, owner: str, key: str) -> str | None:
        """Return the id of the job that a request of the owner with this idempotency key has made."""
        return cast(str | None, self._redis.hget(self._idempotency_redis_key(owner, key), "job"))

    def _idempotency_redis_key(self, owner: str, key: str) -> str:
        return self.store.key("once", owner, hashlib.sha256(key.encode(errors="replace")).hexdigest())

    def get(self, job_id: str) -> Record:
        """Return the job's record.

        Raises `JobNotFound` if there is no such job, and `NotReplicated` if a failover could undo its end.
        """
        found, replicated = self._records([job_id])
        if not found:
            raise JobNotFound(f"there is no job {job_id}")
        if found[0].terminal and not replicated:
            raise NotReplicated("The job has ended, but too few replicas of Redis have its end.")
        return found[0]

    def _read(self, add: AddCommands) -> tuple[list[Any], bool]:
        """Run reading commands. Return their replies, and whether a failover keeps what they have read."""
        if self._replicated:
            return self.store.replicas.attempt(add)
        with self._redis.pipeline(transaction=False) as pipe:
            add(pipe)
            return pipe.execute(), True

    def _records(self, job_ids: Sequence[str]) -> tuple[list[Record], bool]:
        """Return the records of those jobs that exist, and whether a failover keeps what they say."""
        if not job_ids:
            return [], True

        def add(pipe: Pipeline) -> None:
            for job_id in job_ids:
                pipe.hgetall(self.store.channel(job_id) + ":record")

        hashes, replicated = self._read(add)
        found = {job_id: fields for job_id, fields in zip(job_ids, hashes, strict=True) if fields}
        queued = [
            self.store.common_args(job_id) for job_id, fields in found.items() if fields["state"] == "queued"
        ]
        replies = self._scripts.eval_all("position", queued) if queued else []
        positions = {args[-1]: reply for args, reply in zip(queued, replies, strict=True)}
        now = self.store.clock.now()
        records = (Record.from_hash(i, fields, positions.get(i), now) for i, fields in found.items())
        return list(records), replicated

    def find(self, job_ids: Sequence[str]) -> dict[str, Record]:
        """Return the records of those jobs that exist, without their positions."""
        hashes = self.store.hashes([self.store.channel(job_id) + ":record" for job_id in job_ids])
        found = zip(job_ids, hashes, strict=True)
        return {job_id: Record.from_hash(job_id, fields) for job_id, fields in found if fields}

    def page(
        self,
        kind: str | None = None,
        state: JobState | None = None,
        limit: int = 20,
        after: str | None = None,
        owner: str = "",
    ) -> list[Record]:
        """Return at most `limit` jobs of the owner, newest first, optionally of one kind or state.

        `after` is the id of the last job of the previous page. Raises `InvalidInput` if it does not exist.
        """
        jobs = OwnerJobs(self.store, owner, after)
        if kind is None and state is None:
            batches = jobs.batches(limit)
        else:
            batches = _in_batches(jobs.matching(kind, state), limit)
        found: list[Record] = []
        for job_ids in batches:
            found += [
                record for record in self._records(job_ids)[0]
                if kind in (None, record.kind) and state in (None, record.state)
            ]  # fmt: skip
            if len(found) >= limit:
                break
        return found[:limit]

    def expired(self) -> Sequence[str]:
        """Return jobs that ended more than `retention_s` ago or are evicted, the evicted ones first.

        They are at most `_AT_ONCE`.
        """
        last, key = self.store.clock.read() - self.store.settings.retention_s, self.store.key("finished")
        return cast(Sequence[str], self._redis.zrangebyscore(key, "-inf", last, start=0, num=_AT_ONCE))

    def with_inputs(self, age_s: float) -> Sequence[str]:
        """Return jobs that ended more than `age_s` seconds ago and still have their inputs.

        They are at most `_AT_ONCE`.
        """
        last, key = self.store.clock.read() - age_s, self.store.key("inputs")
        return cast(Sequence[str], self._redis.zrangebyscore(key, "-inf", last, start=0, num=_AT_ONCE))

    def ended_before(self, job_ids: Sequence[str], age_s: float) -> Sequence[str]:
        """Return those of the jobs that ended more than `age_s` seconds ago."""
        if not job_ids:
            return []
        last, key = self.store.clock.read() - age_s, self.store.key("finished")
        times = cast("Sequence[float | None]", self._redis.zmscore(key, list(job_ids)))
        return [job_id for job_id, at in zip(job_ids, times, strict=True) if at is not None and at <= last]

    def orphans(self, job_ids: Sequence[str], age_s: float) -> Sequence[str]:
        """Return those of the jobs that each call of the last `age_s` seconds has named.

        The jobs are all that have files and no record. Their names are noted in Redis.
        """
        found = self._scripts.eval("orphans", self.store.settings.prefix, age_s, *job_ids)
        return cast(Sequence[str], found)

    def fields(self, name: str, job_ids: Sequence[str]) -> Sequence[str | None]:
        """Return this field of each job's record, or None if there is no such record or field."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(self.store.channel(job_id) + ":record", name)
            return cast("Sequence[str | None]", pipe.execute())

    def events(self, job_id: str, after: int = 0) -> Sequence[LoggedEvent]:
        """Return the job's events with numbers above `after`, in order; none if there is no such job.

        Raises `NotReplicated` if a failover could lose some of them.
        """
        log, first = self.store.channel(job_id) + ":events", f"({after}-0" if after else "-"
        replies, replicated = self._read(lambda pipe: pipe.xrange(log, min=first))
        if not replicated:
            raise NotReplicated("The job has events that too few replicas of Redis have.")
        entries = cast("Sequence[tuple[str, dict[str, str]]]", replies[0])
        return [LoggedEvent.from_json(entry["event"], entry.get("resume", "")) for _, entry in entries]


def _in_batches(job_ids: Iterator[str], size: int) -> Iterator[Sequence[str]]:
    while batch := list(islice(job_ids, size)):
        yield batch
