"""Hints: Celery messages that call a waiting job to whichever worker has a slot for it."""

import logging
from collections.abc import Iterable

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.jobs.broker import send_message
from worker.jobs.kinds import kind_of
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues

__all__ = ["dispatch", "dispatch_next"]

log = logging.getLogger(__name__)


def dispatch_next(ledger: Ledger, queue: str) -> None:
    """Call as many jobs as the queue's workers have free slots, in fair order. Raises `RedisError`."""
    dispatch(queue, Queues(ledger).dispatch(queue))


def dispatch(queue: str, job_ids: Iterable[str]) -> None:
    """Hint at these jobs. What cannot be sent now is sent again by recovery."""
    for job_id in job_ids:
        try:
            send_message(kind_of(queue), job_id, queue)
        except (OperationalError, RedisError) as error:
            log.warning("job %s: its hint was not sent, recovery will: %s", job_id, error)
