"""WebhookQueue: the endings of jobs with a webhook, kept beside the ledger until they have been delivered."""

from collections.abc import Sequence
from typing import cast

from worker.jobs import broker
from worker.jobs.broker import messages_key
from worker.jobs.ledger.ledger import Ledger

__all__ = ["QUEUE", "TASK", "WebhookQueue"]

#: The Celery queue and task of webhooks; recovery sends by name and needs no code of the API.
QUEUE, TASK = "webhooks", "stoker.webhook"

#: As many messages may wait before no more are sent: when nobody takes them, they must not pile up.
BACKLOG = 200
#: Longer than a try may take. A delivery whose message, or worker, is lost is hinted at again after this.
LOST_S = 60.0


class WebhookQueue:
    """A set of job ids, each with the time (of Redis' clock) at which recovery is to hint at it.

    The ledger's scripts put a job in with its ending, and count its tries in the record's field `webhook`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._redis = ledger.redis
        self._due = ledger.key("webhooks")

    def dispatch_due(self, now: float) -> None:
        """Send a message for each delivery that is due. Raises `kombu.exceptions.OperationalError`."""
        due = cast(Sequence[str], self._redis.zrangebyscore(self._due, "-inf", now, start=0, num=BACKLOG))
        if not due or self._redis.llen(messages_key(self._ledger.settings, QUEUE)) >= BACKLOG:
            return
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in due:
                pipe.hget(self._ledger.channel(job_id) + ":record", "webhook")
            tries = pipe.execute()
        for job_id, tried in zip(due, tries, strict=True):
            if tried is None:  # forgotten, or this Redis has lost data
                self.remove(job_id)
                continue
            # As a retry of that number: so Celery's own count goes on where the lost message was.
            broker.app.send_task(TASK, args=[job_id], retries=int(tried), queue=QUEUE, retry=False)
            self._redis.zadd(self._due, {job_id: now + LOST_S}, xx=True)

    def claim_try(self, job_id: str, tried: int) -> bool:
        """Whether the try after `tried` others is the caller's: each is made once, whoever asks."""
        head = self._ledger.settings.prefix, "", "", "", job_id  # nothing here is logged, so no times
        return bool(self._ledger.scripts.eval("deliver", *head, tried, LOST_S))

    def postpone(self, job_id: str, seconds: float, *, retried: bool) -> None:
        """The next try is due in so many seconds; `retried` says that a message for it is on its way."""
        now, microseconds = self._redis.time()
        due = now + microseconds / 1e6 + seconds + (LOST_S if retried else 0.0)
        self._redis.zadd(self._due, {job_id: due}, xx=True)

    def remove(self, job_id: str) -> None:
        """It was delivered, or given up."""
        self._redis.zrem(self._due, job_id)
