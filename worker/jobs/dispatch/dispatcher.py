"""The dispatcher: the changes of the queues that a process makes and logs."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from worker.jobs.errors import StokerError
from worker.jobs.events import Reason
from worker.jobs.ledger.appends import Append, LedgerReply
from worker.jobs.ledger.ledger import IdempotencyKey, Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.store import RedisStore
from worker.jobs.logs.facts import facts, of_job
from worker.jobs.records import JobState, Record
from worker.jobs.specs import JobSpec
from worker.jobs.trace_context import JobTrace

__all__ = ["Dispatcher", "known_facts"]

log = logging.getLogger(__name__)

#: Jobs of a lost worker that are requeued in one round trip.
JOBS_AT_ONCE = 100


class Dispatcher:
    """The changes that add a job to a queue or free a slot.

    Each is one script, which also pushes the Celery messages of the jobs that are next. Methods raise
    `redis.exceptions.RedisError` if Redis cannot be reached.

    `on_requeue` is called after each job that this process has requeued.
    """

    def __init__(
        self, store: RedisStore, on_requeue: Callable[[str, Reason], None] = lambda *_: None
    ) -> None:
        self.ledger = Ledger(store)
        self._on_requeue = on_requeue
        self._queues = Queues(store)

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
    ) -> str:
        """Record a new job as `Ledger.submit` does, and return its id.

        That is `job_id`, or the id of the job that an earlier request with the same key made.
        """
        submitted = self.ledger.submit(
            job_id, queue, spec, owner, idempotency_key, file_bytes, retry_of, background, trace, prompt
        )
        if submitted.job_id == job_id:
            trace_id = trace and trace.parent.trace_id
            log.info("submitted", extra=facts(job=job_id, trace=trace_id, queue=queue))
        return submitted.job_id

    def append(self, appends: Sequence[Append]) -> Sequence[LedgerReply]:
        """Append events as `Ledger.append` does, and return the replies."""
        return self.ledger.append(appends).replies

    def cancel(self, job_id: str) -> JobState:
        """Cancel the job as `Ledger.cancel` does, and return its state afterwards. Raises `JobNotFound`."""
        state = self.ledger.cancel(job_id)
        log.info("cancel requested", extra=facts(job=job_id, state=state))
        return state

    def requeue(self, job_id: str, worker: str, reason: Reason, claim: str | None = None) -> None:
        """Take the job from the worker (and claim) as `Ledger.requeue` does."""
        if queue := self.ledger.requeue(job_id, worker, reason, claim):
            log.warning("requeued", extra=self.known_facts(job_id, worker=worker, reason=reason, queue=queue))
            self._on_requeue(job_id, reason)

    def requeue_lost(self, job_ids: Sequence[str], worker: str, lease_end: float) -> None:
        """Take the jobs of a lost worker back.

        Nothing happens if the worker has renewed its lease since it had the end `lease_end`. A job that has
        lost too many workers ends.
        """
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            batch = job_ids[start : start + JOBS_AT_ONCE]
            queues = self.ledger.requeue_all(batch, worker, "worker_lost", lease_end)
            found = self.ledger.find(batch)
            for job_id, queue in zip(batch, queues, strict=True):
                known = known_facts(job_id, found.get(job_id))
                if queue:
                    more = {"worker": worker, "reason": "worker_lost", "queue": queue}
                    log.warning("requeued", extra=facts(**known | more))
                    self._on_requeue(job_id, "worker_lost")
                elif job_id in found and found[job_id].terminal:
                    log.warning("ended, because its worker is lost", extra=facts(**known))

    def known_facts(self, job_id: str, **more: object) -> dict[str, Any]:
        """Return the argument `extra` of a log call about the job, with its state if Redis answers."""
        record = None
        with suppress(RedisError, StokerError):
            record = self.ledger.get(job_id)
        return facts(**known_facts(job_id, record) | more)

    def dispatch_next(self, queue: str) -> None:
        """Dispatch as many jobs of the queue as its workers have free slots."""
        self._queues.dispatch_jobs(queue)

    def send_again(self, job_id: str) -> bool:
        """Send the message of a dispatched job again. Return False if there is no such job."""
        return self._queues.send_again(job_id)


def known_facts(job_id: str, record: Record | None) -> dict[str, object]:
    """Return the facts of a log line about the job, whose record may be unknown."""
    return of_job(record) | {"state": record.state} if record else {"job": job_id}
