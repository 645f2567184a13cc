"""Delivers webhooks: sends the final state of each job that has a `webhook_url` to that URL.

The requests are signed according to Standard Webhooks (https://www.standardwebhooks.com).

This module is the Celery app of the worker that sends them:
`celery -A webapi.webhooks.sender worker -Q webhooks --pool threads`.
"""

import json
import logging
import random
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import httpcore
from celery.worker.request import Request
from standardwebhooks import Webhook

from webapi.documents.jobs import JobDocument
from webapi.keys.signing_keys import SigningKeys
from webapi.webhooks.destination import check_url
from webapi.webhooks.network import WebhookNetwork
from worker.jobs.broker import app
from worker.jobs.dispatch.webhook_limits import TASK
from worker.jobs.dispatch.webhook_queue import WebhookQueue
from worker.jobs.errors import DeliveryFailed, InvalidInput, JobNotFound, NotReplicated, Unsupported
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore
from worker.jobs.logs.context import about
from worker.jobs.logs.facts import of_job
from worker.jobs.records import Record, rfc3339
from worker.jobs.settings import Settings

__all__ = ["app", "deliver", "payload", "post", "wait_s"]

log = logging.getLogger(__name__)

#: Time limit of one delivery attempt, from the DNS lookup to the head of the response.
TIMEOUT_S = 10.0
#: Each wait is GROWTH times as long as the one before, but at most WAIT_MAX_S seconds. JITTER then makes it
#: up to a fifth longer or shorter.
GROWTH, WAIT_MAX_S, JITTER = 5, 6 * 3600.0, 0.2
GONE = 410


class AcknowledgedOnReceipt(Request):
    """A Celery request that acknowledges its message when it is received, not when it is executed.

    The message may be lost, because the ledger knows which webhooks are due. If a worker held unacknowledged
    messages, a restart of Redis would end it: kombu returns them over the connection that is gone.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.acknowledge()


@app.task(name=TASK, bind=True, Request=AcknowledgedOnReceipt)
def deliver(task: Any, job_id: str) -> None:
    """Make one attempt to deliver the job's webhook. Then dispatch others, because there is room for one."""
    store = _store()
    webhook_queue, tried = WebhookQueue(store), int(task.request.retries)
    if not webhook_queue.claim_try(job_id, tried):
        return  # the webhook is done, or another message has made this attempt
    # The job was deleted meanwhile, and its webhook with it. Or a failover could undo its end. Then this
    # attempt counts as lost, and another message follows.
    with suppress(JobNotFound, NotReplicated):
        record = Ledger(store, replicated=True).get(job_id)
        with about(**of_job(record)):
            _deliver(store, webhook_queue, record, tried)
    webhook_queue.dispatch_due()


def _deliver(store: RedisStore, webhook_queue: WebhookQueue, record: Record, tried: int) -> None:
    status, problem = _attempt(store, record)
    if problem is None:
        log.info("webhook delivered in attempt %d", tried + 1)
        webhook_queue.remove(record, "delivered")
    elif status == GONE or tried + 1 >= store.settings.webhook_attempts:
        log.error("webhook given up after %d attempts: %s", tried + 1, problem)
        webhook_queue.remove(record, "given_up")
    else:
        pause_s = wait_s(tried, store.settings.webhook_backoff_s)
        log.warning("webhook failed, next attempt in %.1f s: %s", pause_s, problem)
        webhook_queue.postpone(record, pause_s)


def wait_s(tried: int, first_s: float) -> float:
    """Return the seconds to wait after attempt number `tried`, counting from 0.

    `first_s` is the wait after the first attempt, before jitter.
    """
    return min(first_s * float(GROWTH) ** tried, WAIT_MAX_S) * random.uniform(1 - JITTER, 1 + JITTER)


def _attempt(store: RedisStore, record: Record) -> tuple[int | None, str | None]:
    """Return the response's status, None if there is no response, and the problem, None if there is none."""
    try:
        status = post(store, record)
    except (DeliveryFailed, InvalidInput, Unsupported) as error:
        return None, str(error)
    return status, None if 200 <= status < 300 else f"status {status}"


def post(
    store: RedisStore, record: Record, timeout_s: float = TIMEOUT_S, tls: ssl.SSLContext | None = None
) -> int:
    """Send the job's webhook once and return the response's HTTP status.

    Redirects are not followed, proxies are not used, and only the head of the response is read. `tls` is the
    context for https URLs, by default httpcore's.

    Raises `InvalidInput` if the settings do not allow the job's URL any more, and `Unsupported` if only a
    newer version of Stoker can read the job. Raises `DeliveryFailed` if the host's address is not allowed or
    not reachable, or if there is no response within `timeout_s` seconds.
    """
    url = check_url(store.settings, record.spec.webhook_url or "")
    body, message_id = payload(record, store.settings.path_prefix), f"msg_{record.id}"
    now = datetime.fromtimestamp(store.clock.now(), UTC)
    key = SigningKeys(store).webhook_key(record.owner)
    headers: dict[bytes | str, bytes | str] = {
        "Host": url.netloc,  # httpcore's own Host header lacks the brackets of an IPv6 address
        "Content-Type": "application/json",
        "User-Agent": f"stoker/{version('stoker')}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(key).sign(message_id, now, body),
    }
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    network = WebhookNetwork(store.settings, record.owner, timeout_s)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=tls or _default_tls(), network_backend=network) as pool,
            pool.stream("POST", target, headers=headers, content=body.encode()) as response,
        ):
            return int(response.status)
    except httpcore.ProtocolError as error:
        reason = str(error).partition(": ")[0]  # the rest quotes the response
        raise DeliveryFailed(f"{url.host}: {reason or type(error).__name__}") from error
    except (httpcore.TimeoutException, httpcore.NetworkError) as error:
        raise DeliveryFailed(f"{url.host}: {str(error) or type(error).__name__}") from error


def payload(record: Record, prefix: str = "") -> str:
    """Return the webhook's body as JSON: its type, the time of the end, and the job as the API shows it.

    The paths of the job's links begin with `prefix`.
    """
    ended_at = rfc3339(record.finished_at or record.created_at)
    document = JobDocument.from_record(record, prefix).model_dump()
    return json.dumps({"type": f"job.{record.state}", "timestamp": ended_at, "data": document})


@cache
def _default_tls() -> ssl.SSLContext:
    """Return one context for all requests: to load the certificates takes a tenth of a second of CPU time."""
    return httpcore.default_ssl_context()


@cache
def _store() -> RedisStore:
    return RedisStore(Settings.from_env())
