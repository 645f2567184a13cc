"""The webhook queue: deliveries that are due, kept in Redis until they are made or given up."""

import logging
from typing import Literal

from worker.jobs.dispatch.webhook_limits import AT_ONCE, HOST_AT_ONCE, LOST_S, OWNER_AT_ONCE, QUEUE, TASK
from worker.jobs.ledger.store import RedisStore
from worker.jobs.logs.facts import facts
from worker.jobs.records import Record

__all__ = ["WebhookQueue"]

log = logging.getLogger(__name__)


class WebhookQueue:
    """The undelivered webhooks of each owner, each with the time (of Redis' clock) at which it is due.

    The ledger's scripts add a job with its terminal event, and count its tries in the field `webhook` of its
    record.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def dispatch_due(self) -> None:
        """Push a message for each delivery that is due and that the limits allow now.

        Owners get equal turns. Recovery calls this regularly, and the sender after each try.
        """
        settings = self._store.settings
        limits = AT_ONCE, OWNER_AT_ONCE, HOST_AT_ONCE, settings.webhook_max_due, LOST_S
        for job_id in self._store.scripts.eval("dispatch_webhooks", settings.prefix, *limits, QUEUE, TASK):
            most = settings.webhook_max_due
            log.error("webhook given up, its key has %d others", most, extra=facts(job=job_id))

    def claim_try(self, job_id: str, tried: int) -> bool:
        """Claim the try that follows `tried` earlier ones. Return False if the caller must not make it.

        Each try is made once, even if several messages lead to it.
        """
        head = self._store.settings.prefix, "", "", "", job_id  # no times, because no event is logged
        return bool(self._store.scripts.eval("claim_webhook_try", *head, tried, LOST_S))

    def postpone(self, record: Record, seconds: float) -> None:
        """End a try that has failed. The next one is due in this many seconds."""
        self._settle(record, "retried", self._store.clock.read() + seconds)

    def remove(self, record: Record, outcome: Literal["delivered", "given_up"]) -> None:
        """End the last try, and remove its delivery."""
        self._settle(record, outcome)

    def _settle(self, record: Record, outcome: str, due: float | None = None) -> None:
        head = self._store.settings.prefix, "", "", "", record.id  # no times, because no event is logged
        args = record.owner, outcome, "" if due is None else due
        self._store.scripts.eval("settle_webhook_try", *head, *args)
