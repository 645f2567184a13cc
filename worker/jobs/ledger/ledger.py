"""The ledger: the state of all jobs in Redis. Celery messages only signal that a job waits in it."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from redis.exceptions import RedisError

from worker.jobs.errors import (
    IdempotencyConflict,
    JobConflict,
    JobNotFound,
    NeedsExclusiveWorker,
    QueueFull,
    StorageFull,
)
from worker.jobs.events import Reason
from worker.jobs.kinds import model_of
from worker.jobs.ledger.appends import Append, Appended, script_args
from worker.jobs.ledger.pending_reply import PendingReply
from worker.jobs.ledger.reader import LedgerReader
from worker.jobs.records import JobState, Record
from worker.jobs.specs import JobSpec
from worker.jobs.stored import ADAPTER_SCHEMA, SCHEMA
from worker.jobs.trace_context import JobTrace

__all__ = [
    "IdempotencyKey",
    "Ledger",
    "Submitted",
    "raise_if_full",
]


#: Jobs of one call of the append script. A call blocks Redis for some milliseconds, so it must not grow
#: further.
_JOBS_PER_APPEND = 64
#: Calls of a script in one pipeline. Redis keeps all their replies in memory, and each call needs its turn.
_CALLS_PER_PIPELINE = 1000
#: The reply of the claim script if the job needs a worker of its own.
_NEEDS_EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for a request that makes one job, however often it is sent (header Idempotency-Key).

    `fingerprint` is a hash of the request. It tells a repeated request from another one with the same key.
    """

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The reply to a submit.

    `job_id` is the new job, or the job that an earlier request with the same idempotency key made.
    `dispatched` are the jobs that this call has dispatched: each has a Celery message now.
    """

    job_id: str
    dispatched: Sequence[str]


class Ledger(LedgerReader):
    """The state of all jobs. Each method that changes a job is one atomic step that may be repeated.

    Methods raise `redis.exceptions.RedisError` if Redis cannot be reached. `submit`, `cancel` and `forget`,
    which clients wait for, raise `NotReplicated` if the change is made but too few replicas have it.
    """

    def submit(
        self,
        job_id: str,
        queue: str,
        spec: JobSpec,
        owner: str = "",
        idempotency_key: IdempotencyKey | None = None,
        file_bytes: int = 0,
        retry_of: str = "",
        background: bool = False,
        trace: JobTrace | None = None,
        prompt: str = "",
    ) -> Submitted:
        """Record a new job and log its first event, or find the job of an earlier request with the same key.

        `file_bytes` are the bytes of its uploaded files. The owner's oldest ended jobs make room for it.
        `retry_of` is the id of the ended job that this one repeats, if it does. A `background` job comes
        after all other jobs of the queue, whatever its priority. `trace` is its place in a trace. A request
        that is repeated does not change it. `prompt` has the token ids of its prompt (`packed_prompt`).

        Raises `QueueFull`, `StorageFull`, or `IdempotencyConflict` if the key belongs to another request.
        """
        limits, known = self.store.settings, ("", "")
        max_queue_s, timeout_s = spec.max_queue_s or limits.max_queue_s, spec.timeout_s or limits.timeout_s
        if idempotency_key:
            known = self._idempotency_redis_key(owner, idempotency_key.key), idempotency_key.fingerprint
        text, priority = spec.model_dump_json(exclude_defaults=True), -1 if background else spec.priority
        job = spec.kind, queue, text, owner, priority
        schema = SCHEMA if spec.model in (None, model_of(queue)) else ADAPTER_SCHEMA
        adapter = "" if schema == SCHEMA else spec.model
        rest = spec.webhook_host, file_bytes, schema, spec.length, retry_of, adapter, *_trace_args(trace)
        args = *limits.caps, max_queue_s, timeout_s, *job, *known, *rest, prompt
        outcome, *ids = self._scripts.eval_replicated("submit", *self.store.common_args(job_id), *args)
        if outcome == "differs":
            raise IdempotencyConflict("this Idempotency-Key came with another request before")
        raise_if_full(outcome, queue, limits.max_waiting)
        return Submitted(ids[0], ids[1:])

    def claim(
        self, job_id: str, worker: str, device: str, claim: str | None = None, *, exclusive: bool = False
    ) -> Record | None:
        """Claim a waiting job for the worker, and renew the worker's lease. Return None if it does not wait.

        `claim` is a unique name of this call. After an error the call may be repeated under the same name.
        `exclusive` says that the worker runs no other job. Raises `NeedsExclusiveWorker` if it is False and
        this is the job's last attempt: the job may have killed its earlier workers, and must not take other
        jobs with it.
        """
        args = self._claim_args(job_id, worker, device, claim or uuid.uuid4().hex, exclusive)
        return self._claimed(job_id, self._scripts.eval("claim", *args))

    def send_claim(
        self, job_id: str, worker: str, device: str, claim: str, exclusive: bool = False
    ) -> PendingReply:
        """Send a claim under this name to Redis. `read_claim` takes the reply."""
        return self._scripts.send("claim", *self._claim_args(job_id, worker, device, claim, exclusive))

    def read_claim(self, job_id: str, reply: PendingReply) -> Record | None:
        """Wait for the outcome of a claim that was sent. Return it, or raise, as `claim` does.

        After a `RedisError` the claim may hold nevertheless, so it must be repeated under the same name.
        """
        return self._claimed(job_id, reply.read())

    def _claim_args(
        self, job_id: str, worker: str, device: str, claim: str, exclusive: bool
    ) -> tuple[Any, ...]:
        settings, common = self.store.settings, self.store.common_args(job_id)
        own = worker, device, claim, settings.lease_ttl_s, settings.max_attempts, "1" if exclusive else ""
        return *common, *own

    @staticmethod
    def _claimed(job_id: str, reply: Any) -> Record | None:
        if reply == _NEEDS_EXCLUSIVE:
            raise NeedsExclusiveWorker(f"{job_id} has lost too many workers to run beside other jobs")
        return Record.from_hash(job_id, dict(zip(reply[::2], reply[1::2], strict=True))) if reply else None

    def claim_again(self, record: Record) -> int | None:
        """Repeat a claim that Redis has lost, and log its event under the same number and time.

        `record` is what the claim has returned. Return the number of the log's last event. Return None if the
        job or other events are lost, too, or if the job does not wait any more.
        """
        settings = self.store.settings
        args = record.worker, record.device, record.claim, settings.lease_ttl_s, settings.max_attempts, "1"
        common = self.store.common_args(record.id, record.claimed_at)
        reply = self._scripts.eval("claim", *common, *args, record.attempt, record.events)
        return int(dict(zip(reply[::2], reply[1::2], strict=True))["events"]) if reply else None

    def append(self, appends: Sequence[Append]) -> Appended:
        """Log and publish the events of many jobs in one round trip, and return the replies.

        The call may be repeated after an error: events that are in the log already are not logged again.
        """
        common = self.store.common_args("")
        calls = [
            (*common, *script_args(appends[start : start + _JOBS_PER_APPEND]))
            for start in range(0, len(appends), _JOBS_PER_APPEND)
        ]
        return Appended.from_script(list(chain.from_iterable(self._scripts.eval_all("append", calls))))

    def cancel(self, job_id: str) -> JobState:
        """Cancel the job and return its state afterwards. Raises `JobNotFound`.

        A waiting job ends at once. A running job stays `running` until its worker reads the request in the
        reply to its next append. If the worker has not ended the job after `lease_ttl_s`, it ends without the
        worker.
        """
        args = *self.store.common_args(job_id), self.store.settings.lease_ttl_s
        state = self._scripts.eval_replicated("cancel", *args)
        if state is None:
            raise JobNotFound(f"there is no job {job_id}")
        return cast(JobState, state)

    def requeue(
        self,
        job_id: str,
        worker: str,
        reason: Reason,
        claim: str | None = None,
        lease_end: float | None = None,
    ) -> str | None:
        """Take the job from the worker (and claim) back to the front of its queue. Return that queue.

        Return None if the job did not go back: the worker does not have it any more, the job has ended or
        ends with this call, or the worker has renewed its lease since it had the end `lease_end`.
        """
        (queue,) = self.requeue_all([job_id], worker, reason, lease_end, claim)
        return queue

    def requeue_all(
        self,
        job_ids: Sequence[str],
        worker: str,
        reason: Reason,
        lease_end: float | None = None,
        claim: str | None = None,
    ) -> Sequence[str | None]:
        """Requeue many jobs in one round trip, each as `requeue` does. Return their queues."""
        end = "" if lease_end is None else lease_end
        args = worker, reason, self.store.settings.max_attempts, claim or "", end
        calls = [(*self.store.common_args(job_id), *args) for job_id in job_ids]
        return cast("list[str | None]", self._scripts.eval_all("requeue", calls))

    def forget(self, job_id: str) -> None:
        """Delete a job that has ended. Raises `JobNotFound`, or `JobConflict` while the job waits or runs.

        The caller has removed the job's files.
        """
        self.get(job_id)
        if not self._scripts.eval_replicated("forget", *self.store.common_args(job_id)):
            raise JobConflict("the job has not ended yet; cancel it first")

    def forget_all(self, job_ids: Sequence[str]) -> None:
        """Delete those of the jobs that have ended. The caller has removed their files."""
        self._eval_for_all("forget", job_ids)

    def release_key(self, owner: str, key: str) -> None:
        """Let the owner's next request with this idempotency key make another job."""
        self._redis.delete(self._idempotency_redis_key(owner, key))

    @contextmanager
    def released_key(self, owner: str, key: str) -> Iterator[str | None]:
        """Release the key for the block, and yield the id of its job. It is as before if the block raises.

        If another request has taken the key meanwhile, it keeps it.
        """
        name = self._idempotency_redis_key(owner, key)
        aside, earlier = f"{name}:aside", self.job_for(owner, key)
        self._redis.copy(name, aside, replace=True)
        self._redis.delete(name)
        try:
            yield earlier
        except Exception:
            if earlier:
                with suppress(RedisError):  # the error of the block says more
                    self._redis.copy(aside, name)
            raise
        finally:
            with suppress(RedisError):
                self._redis.delete(aside)

    def inputs_removed(self, *job_ids: str) -> None:
        """Note that the files which these ended jobs need no more are removed."""
        self._eval_for_all("inputs_removed", job_ids)

    def _eval_for_all(self, script: str, job_ids: Sequence[str]) -> None:
        for start in range(0, len(job_ids), _CALLS_PER_PIPELINE):
            jobs = job_ids[start : start + _CALLS_PER_PIPELINE]
            self._scripts.eval_all(script, [self.store.common_args(job_id) for job_id in jobs])

    def end_overdue(self) -> Sequence[str]:
        """End jobs whose deadline has passed, waiting or running, and return their ids.

        One call ends at most `_CALLS_PER_PIPELINE` jobs.
        """
        args = self.store.settings.prefix, _CALLS_PER_PIPELINE
        overdue = cast(Sequence[str], self._scripts.eval("overdue", *args))
        calls = [self.store.common_args(job_id) for job_id in overdue]
        ended = self._scripts.eval_all("expire", calls) if calls else []
        return [job_id for job_id, done in zip(overdue, ended, strict=True) if done]


def _trace_args(trace: JobTrace | None) -> tuple[str, str, str, str]:
    if trace is None:
        return "", "", "", ""
    link = trace.link.traceparent if trace.link else ""
    return trace.parent.traceparent, trace.parent.state, link, "1" if trace.exported else ""


def raise_if_full(outcome: str | None, queue: str, max_waiting: int) -> None:
    """Raise the error of a script's outcome, if it is one of `refusal` in `lua/account.lua`."""
    if outcome == "queue":
        raise QueueFull(f"{max_waiting} jobs wait in {queue}", retry_after_s=1)
    if outcome == "key":
        raise QueueFull("no more jobs of this API key may wait", retry_after_s=1)
    if outcome == "kept":
        raise StorageFull("your jobs keep all the bytes that they may; delete some, or wait", retry_after_s=5)
