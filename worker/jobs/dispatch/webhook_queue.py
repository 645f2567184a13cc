"""The webhook queue: deliveries that are due, kept in Redis until they are made or given up."""

from collections.abc import Sequence
from typing import cast

from worker.jobs import broker
from worker.jobs.broker import messages_key
from worker.jobs.ledger.ledger import Ledger

__all__ = ["QUEUE", "TASK", "WebhookQueue"]

#: The Celery queue and task of webhooks. Messages name the task, so recovery imports no code of the API.
QUEUE, TASK = "webhooks", "stoker.webhook"

#: No message is sent while this many wait. Otherwise they would pile up when no sender runs.
BACKLOG = 200
#: Longer than one try can take, in seconds. If a try has had no outcome after this time, its message or its
#: sender is lost, and recovery sends another message.
LOST_S = 60.0


class WebhookQueue:
    """A sorted set of job ids, each with the time (of Redis' clock) at which recovery sends its next message.

    The ledger's scripts add a job with its terminal event, and count its tries in the field `webhook` of its
    record.
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
            if tried is None:  # the job was forgotten, or this Redis has lost data
                self.remove(job_id)
                continue
            # This message is the retry number `tried`, so Celery continues its count from the lost message.
            broker.app.send_task(TASK, args=[job_id], retries=int(tried), queue=QUEUE, retry=False)
            self._redis.zadd(self._due, {job_id: now + LOST_S}, xx=True)

    def claim_try(self, job_id: str, tried: int) -> bool:
        """Claim the try that follows `tried` earlier ones. Return False if the caller must not make it.

        Each try is made once, even if several messages lead to it.
        """
        head = self._ledger.settings.prefix, "", "", "", job_id  # no times, because no event is logged
        return bool(self._ledger.scripts.eval("claim_webhook_try", *head, tried, LOST_S))

    def postpone(self, job_id: str, seconds: float, *, retried: bool) -> None:
        """Set the next try to be due in this many seconds.

        `retried` says that Celery has a message for this try already; recovery then waits `LOST_S` longer.
        """
        now, microseconds = self._redis.time()
        due = now + microseconds / 1e6 + seconds + (LOST_S if retried else 0.0)
        self._redis.zadd(self._due, {job_id: due}, xx=True)

    def remove(self, job_id: str) -> None:
        """Remove a delivery that was made or given up."""
        self._redis.zrem(self._due, job_id)
