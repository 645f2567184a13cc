"""The ledger: records, claims and event logs of all jobs in Redis; the truth that Celery only hints at."""

import hashlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import redis

from worker.jobs.errors import (
    IdempotencyConflict,
    InvalidInput,
    JobConflict,
    JobNotFound,
    NeedsExclusiveWorker,
    QueueFull,
)
from worker.jobs.events import LoggedEvent, Reason
from worker.jobs.ledger.appends import Append, Ended, Reply
from worker.jobs.ledger.connection import connect
from worker.jobs.ledger.scripts import Scripts
from worker.jobs.records import JobState, Record, rfc3339
from worker.jobs.settings import Settings
from worker.jobs.specs import JobSpec

__all__ = [
    "IdempotencyKey",
    "Ledger",
    "Submitted",
]


#: Jobs whose events one run of the script logs: for some milliseconds nobody else is served.
_TOGETHER = 64
#: What `claim` answers, beside nothing and the record's fields, when the job must have a worker to itself.
_ALONE = "alone"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for a request that is to make one job however often it is sent (Idempotency-Key).

    `fingerprint` tells another request of the same name from a repeated one.
    """

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submitted job, or the one that an earlier request of the same name has made; and whom to hint at."""

    job_id: str
    dispatched: Sequence[str]


class Ledger:
    """All that the API and the workers know of jobs. Every method is one round trip, atomic per job.

    Raises `redis.exceptions.RedisError` when Redis is away.
    """

    def __init__(self, settings: Settings, client: "redis.Redis | None" = None) -> None:
        self.settings = settings
        self.redis = client or connect(settings)
        self.scripts = Scripts(self.redis)

    def key(self, *parts: str) -> str:
        """A key under this ledger's prefix."""
        return ":".join((self.settings.prefix, *parts))

    def channel(self, job_id: str) -> str:
        """The pub/sub channel that carries the job's events."""
        return self.key("job", f"{{{job_id}}}")

    def common_args(self, job_id: str) -> tuple[Any, ...]:
        """What every script about jobs is told first."""
        now = time.time()
        return self.settings.prefix, rfc3339(now), now, self.settings.retention_s, job_id

    def submit(
        self, job_id: str, queue: str, spec: JobSpec, owner: str = "", once: IdempotencyKey | None = None
    ) -> Submitted:
        """Record a new job of this owner and its first event; or find the one of an earlier, equal request.

        Raises `QueueFull`, and `IdempotencyConflict` when the earlier request was another one.
        """
        limits = self.settings
        max_queue_s, timeout_s = spec.max_queue_s or limits.max_queue_s, spec.timeout_s or limits.timeout_s
        asked = spec.kind, queue, spec.model_dump_json(), owner, spec.priority
        known = (self._once(owner, once.key), once.fingerprint) if once else ("", "")
        tail = limits.max_waiting, max_queue_s, timeout_s, *asked, *known, "1" if spec.webhook_url else ""
        outcome, *ids = self.scripts.eval("submit", *self.common_args(job_id), *tail)
        if outcome == "differs":
            raise IdempotencyConflict("this Idempotency-Key came with another request before")
        check_room(outcome, queue, limits.max_waiting)
        return Submitted(ids[0], ids[1:])

    def _once(self, owner: str, key: str) -> str:
        return self.key("once", owner, hashlib.sha256(key.encode(errors="replace")).hexdigest())

    def has_job_for(self, owner: str, key: str) -> bool:
        """Whether a request of this idempotency key has made a job."""
        return bool(self.redis.exists(self._once(owner, key)))

    def claim(
        self, job_id: str, worker: str, device: str, *, claim: str | None = None, exclusive: bool = False
    ) -> Record | None:
        """Take a waiting job for this worker, and renew its lease; None when it is not waiting (any more).

        A claim of the same name may be repeated after an error. Raises `NeedsExclusiveWorker`, unless it is,
        for a job that may have been the end of its earlier workers: it must not take others with it.
        """
        settings, name = self.settings, claim or uuid.uuid4().hex
        tail = worker, device, name, settings.lease_ttl_s, settings.max_attempts, "1" if exclusive else ""
        flat = self.scripts.eval("claim", *self.common_args(job_id), *tail)
        if flat == _ALONE:
            raise NeedsExclusiveWorker(f"{job_id} has lost too many workers to run beside other jobs")
        return Record.from_hash(job_id, dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None

    def append(self, appends: Sequence[Append]) -> list[Reply]:
        """Log and publish the events of many jobs in one round trip; safe to repeat after an error."""
        head, calls = self.common_args(""), []
        for start in range(0, len(appends), _TOGETHER):
            jobs = (item.flat() for item in appends[start : start + _TOGETHER])
            calls.append((*head, *chain.from_iterable(jobs)))
        replies = chain.from_iterable(self.scripts.eval_all("append", calls))
        return [Ended(reply) if isinstance(reply, list) else reply for reply in replies]

    def cancel(self, job_id: str) -> JobState:
        """Ask for the job's end; the state afterwards. Raises `JobNotFound`.

        A worker that has not ended a running job after `lease_ttl_s` has lost it, and the job ends without.
        """
        state = self.scripts.eval("cancel", *self.common_args(job_id), self.settings.lease_ttl_s)
        if state is None:
            raise JobNotFound(f"there is no job {job_id}")
        return cast(JobState, state)

    def requeue(self, job_id: str, worker: str, reason: Reason, attempt: int | None = None) -> str | None:
        """Take the job from this worker (and attempt) back to the front of its queue; that queue, or None.

        None: it is not the worker's any more, it has ended, or the lost worker holds its lease after all.
        """
        tail = worker, reason, self.settings.max_attempts, "" if attempt is None else attempt
        return cast(str | None, self.scripts.eval("requeue", *self.common_args(job_id), *tail))

    def forget(self, job_id: str) -> None:
        """Drop a terminal job. Raises `JobNotFound`, `JobConflict` while it waits or runs."""
        self.get(job_id)
        if not self.scripts.eval("forget", *self.common_args(job_id)):
            raise JobConflict("the job has not ended yet; cancel it first")

    def drop_expired(self) -> Sequence[str]:
        """Forget the jobs that ended longer ago than they are kept; their ids."""
        last = time.time() - self.settings.retention_s
        expired = cast(Sequence[str], self.redis.zrangebyscore(self.key("finished"), "-inf", last))
        if expired:
            self.scripts.eval_all("forget", [self.common_args(job_id) for job_id in expired])
        return expired

    def end_overdue(self) -> Sequence[str]:
        """End the jobs that have waited or run for longer than they may; their ids."""
        due = cast(Sequence[str], self.scripts.eval("due", self.settings.prefix))
        ended = self.scripts.eval_all("expire", [self.common_args(job_id) for job_id in due]) if due else []
        return [job_id for job_id, done in zip(due, ended, strict=True) if done]

    def get(self, job_id: str) -> Record:
        """The job. Raises `JobNotFound`."""
        found = self._records([job_id])
        if not found:
            raise JobNotFound(f"there is no job {job_id}")
        return found[0]

    def _records(self, job_ids: Sequence[str]) -> list[Record]:
        """Those of the jobs that exist, with their places in the queue."""
        if not job_ids:
            return []
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(self.channel(job_id) + ":record")
            found = {i: fields for i, fields in zip(job_ids, pipe.execute(), strict=True) if fields}
        queued = [job_id for job_id, fields in found.items() if fields["state"] == "queued"]
        places = (
            self.scripts.eval_all("place", [self.common_args(job_id) for job_id in queued]) if queued else []
        )
        place_of = dict(zip(queued, places, strict=True))
        return [Record.from_hash(job_id, fields, place_of.get(job_id)) for job_id, fields in found.items()]

    def page(
        self,
        kind: str | None = None,
        state: str | None = None,
        limit: int = 20,
        after: str | None = None,
        owner: str = "",
    ) -> list[Record]:
        """The owner's jobs newest first, at most `limit`, from the one before `after` on."""
        index = self.key("owner", owner, "jobs")
        score = None if after is None else self.redis.zscore(index, after)
        if after is not None and score is None:
            raise InvalidInput("after", f"there is no job {after}")
        found: list[Record] = []
        for page in self._pages(index, "+inf" if score is None else f"({score}"):
            found += [
                record for record in self._records(page)
                if kind in (None, record.kind) and state in (None, record.state)
            ]  # fmt: skip
            if len(found) >= limit:
                break
        return found[:limit]

    def _pages(self, index: str, newest: str, size: int = 100) -> Iterator[Sequence[str]]:
        start = 0
        while page := self.redis.zrange(
            index, newest, "-inf", desc=True, byscore=True, offset=start, num=size
        ):
            yield cast(Sequence[str], page)
            start += size

    def events(self, job_id: str, after: int = 0) -> Sequence[LoggedEvent]:
        """The job's events with numbers above `after`, in order; none for a job that does not exist."""
        entries = cast(
            "Sequence[tuple[str, dict[str, str]]]",
            self.redis.xrange(self.channel(job_id) + ":events", min=f"({after}-0" if after else "-"),
        )
        return [LoggedEvent.parse(entry["event"], entry.get("resume", "")) for _, entry in entries]


def check_room(outcome: str | None, queue: str, most: int) -> None:
    """Raise the `QueueFull` that a script's outcome stands for, if any."""
    if outcome == "queue":
        raise QueueFull(f"{most} jobs wait in {queue}", retry_after_s=1)
    if outcome == "key":
        raise QueueFull("no more jobs of this API key may wait", retry_after_s=1)
