"""The dispatcher: it picks the next jobs of a queue and sends the messages that bring them to workers."""

import logging
from collections.abc import Iterable

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.jobs.broker import send_message
from worker.jobs.events import Reason
from worker.jobs.kinds import kind_of
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues

__all__ = ["dispatch", "dispatch_next", "requeue"]

log = logging.getLogger(__name__)


def dispatch_next(ledger: Ledger, queue: str) -> None:
    """Dispatch as many jobs of the queue as its workers have free slots. Raises `RedisError`."""
    dispatch(queue, Queues(ledger.store).dispatch_jobs(queue))


def dispatch(queue: str, job_ids: Iterable[str]) -> None:
    """Send the messages of jobs that the ledger has dispatched.

    An error is only logged, because recovery sends a lost message again.
    """
    for job_id in job_ids:
        try:
            send_message(kind_of(queue), job_id, queue)
        except (OperationalError, RedisError) as error:
            log.warning("job %s: the message was not sent, recovery will send it: %s", job_id, error)


def requeue(ledger: Ledger, job_id: str, worker: str, reason: Reason, attempt: int | None = None) -> None:
    """Take the job from the worker (and attempt) back to the front of its queue, and dispatch the next job.

    Does nothing if `Ledger.requeue` refuses. Raises `RedisError`.
    """
    if queue := ledger.requeue(job_id, worker, reason, attempt):
        log.warning("job %s: requeued in %s (worker %s, reason %s)", job_id, queue, worker, reason)
        dispatch_next(ledger, queue)
