"""Webhooks: a job's ending, signed as Standard Webhooks says, to the URL that its client gave.

This module is the Celery app of the worker that sends them:
`celery -A webapi.webhooks.sender worker -Q webhooks --pool threads`.
"""

import json
import logging
import random
import ssl
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import httpcore
from celery.worker.request import Request
from standardwebhooks import Webhook

from webapi.documents.jobs import JobDocument
from webapi.services.signing_keys import SigningKeys
from webapi.webhooks.addresses import PublicOnlyBackend, check_url
from worker.jobs.broker import app
from worker.jobs.dispatch.webhook_queue import TASK, WebhookQueue
from worker.jobs.errors import DeliveryFailed, InvalidInput, JobNotFound
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.records import Record, rfc3339
from worker.jobs.settings import Settings

__all__ = ["app", "deliver", "payload", "post", "wait_s"]

log = logging.getLogger(__name__)

#: For one try, from the look-up of the name to the answer's head.
TIMEOUT_S = 10.0
#: Each wait is so many times the one before it, up to this many seconds, and up to a fifth more or less.
GROWTH, WAIT_MAX_S, JITTER = 5, 6 * 3600.0, 0.2
#: A longer wait is not the worker's, which would hold a message in its memory: recovery hints at the try when
#: it is due.
RETRY_MAX_S = 900.0
GONE = 410


class Received(Request):
    """A message that is acknowledged when it is received, not when its time has come.

    What it is about is in the ledger. And a Celery worker that holds messages ends with a restart of Redis:
    kombu would give them back over the connection that is gone.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.acknowledge()


@app.task(name=TASK, bind=True, max_retries=None, Request=Received)
def deliver(task: Any, job_id: str) -> None:
    """One try at the job's webhook; the next one is the task's retry."""
    ledger = _ledger()
    webhook_queue, tried = WebhookQueue(ledger), int(task.request.retries)
    if not webhook_queue.claim_try(job_id, tried):
        return  # it is done, or another message has made this try
    try:
        record = ledger.get(job_id)
    except JobNotFound:  # forgotten just now, and the delivery with it
        return
    status, problem = _try(ledger, record)
    if problem is None:
        log.info("job %s: its webhook was taken, try %d", job_id, tried + 1)
        webhook_queue.remove(job_id)
    elif status == GONE or tried + 1 >= ledger.settings.webhook_attempts:
        log.error("job %s: its webhook is given up after %d tries: %s", job_id, tried + 1, problem)
        webhook_queue.remove(job_id)
    else:
        pause_s = wait_s(tried, ledger.settings.webhook_backoff_s)
        log.warning("job %s: its webhook fails, again in %.1f s: %s", job_id, pause_s, problem)
        webhook_queue.postpone(job_id, pause_s, retried=pause_s <= RETRY_MAX_S)
        if pause_s <= RETRY_MAX_S:
            raise task.retry(countdown=pause_s)


def wait_s(tried: int, first_s: float) -> float:
    """Seconds to wait after the try number `tried` (from 0)."""
    return min(first_s * float(GROWTH) ** tried, WAIT_MAX_S) * random.uniform(1 - JITTER, 1 + JITTER)


def _try(ledger: Ledger, record: Record) -> tuple[int | None, str | None]:
    """The answer's status, and what is wrong."""
    try:
        status = post(ledger, record)
    except (DeliveryFailed, InvalidInput) as error:  # settings may have changed since the URL was taken
        return None, str(error)
    return status, None if 200 <= status < 300 else f"status {status}"


def post(
    ledger: Ledger, record: Record, timeout_s: float = TIMEOUT_S, tls: ssl.SSLContext | None = None
) -> int:
    """The status that the job's URL answers its ending with. Raises `DeliveryFailed`, `InvalidInput`.

    No redirect is followed, no proxy used, and nothing read behind the answer's head.
    """
    url = check_url(ledger.settings, record.spec.webhook_url or "")
    body, now, message_id = payload(record), datetime.now(UTC), f"msg_{record.id}"
    key = SigningKeys(ledger).webhook_key(record.owner)
    headers: dict[bytes | str, bytes | str] = {
        "Host": url.netloc,  # httpcore would leave out the brackets of IPv6
        "Content-Type": "application/json",
        "User-Agent": f"stoker/{version('stoker')}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(key).sign(message_id, now, body),
    }
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    network = PublicOnlyBackend(private=ledger.settings.webhook_private, timeout_s=timeout_s)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=tls, network_backend=network) as pool,
            pool.stream("POST", target, headers=headers, content=body.encode()) as response,
        ):
            return int(response.status)
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise DeliveryFailed(f"{url.host}: {str(error) or type(error).__name__}") from error


def payload(record: Record) -> str:
    """What is sent, as JSON: the job as `GET /v1/jobs/{id}` shows it, and what has happened to it."""
    ended_at = rfc3339(record.finished_at or record.created_at)
    document = JobDocument.from_record(record).model_dump()
    return json.dumps({"type": f"job.{record.state}", "timestamp": ended_at, "data": document})


@cache
def _ledger() -> Ledger:
    return Ledger(Settings.from_env())
