"""Submission of validated jobs to the queue of their model, and their cancellation."""

import logging
import math
from functools import partial

from redis.exceptions import RedisError

from webapi.auth import access, audit
from webapi.http.problems import RETRY_AFTER_S
from webapi.kinds.table import API_KINDS
from webapi.services.backend import Backend
from webapi.submission.model_choice import choose_model
from webapi.tracing.request_trace import job_trace
from webapi.webhooks.destination import check_url
from worker.jobs.cards import ModelCard
from worker.jobs.connection.refusals import Refusal
from worker.jobs.errors import (
    InvalidInput,
    NotReady,
    NotReplicated,
    QueueFull,
    StorageFull,
    SubmitOutcomeUnknown,
)
from worker.jobs.ledger.ledger import IdempotencyKey
from worker.jobs.records import JobState
from worker.jobs.specs import JobSpec
from worker.jobs.trace_context import TraceContext

__all__ = ["cancel", "check_room", "submit"]

logger = logging.getLogger(__name__)


def submit(
    backend: Backend,
    job_id: str,
    spec: JobSpec,
    key: IdempotencyKey | None = None,
    file_bytes: int = 0,
    retry_of: str = "",
    background: bool = False,
    cause: TraceContext | None = None,
) -> str:
    """Queue the caller's job, whose uploaded files have `file_bytes` bytes, and return its id.

    That is `job_id`, or the id of the earlier job if the caller's idempotency key has made one before.
    `retry_of` is the id of the ended job that this one repeats, if it does. A `background` job comes after
    all other jobs of its queue. `cause` is a span of another trace, to which the job's first span is linked.

    Raises `InvalidInput`, `NotReady`, `ModelUnavailable` or `QueueFull` if the job was not queued, and
    `SubmitOutcomeUnknown`, a `NotReady`, if Redis was lost meanwhile and the job may have been queued.
    """
    backend.redis_memory.check_room()
    _check_times(backend, spec)
    _check_length(backend, spec)
    owner, card = access.owner(), choose_model(backend, spec, key.key if key else None)
    if spec.webhook_url is not None:
        check_url(backend.settings, spec.webhook_url)
    prompt = ""
    if admit := API_KINDS[spec.kind].admit:
        # A request whose idempotency key may have made the job already gets it, also if the queue is full.
        prompt = admit(backend, card, spec, partial(_check_room, backend, card, known=key is not None))
    if retry_of:  # the stored spec may have fields that this version does not know
        prompt = ""
    try:
        named = spec.model_copy(update={"model": card.name})
        more = file_bytes, retry_of, background, job_trace(backend.settings, job_id, cause), prompt
        accepted = backend.dispatcher.submit(job_id, card.queue, named, owner, key, *more)
    except NotReplicated as error:
        raise SubmitOutcomeUnknown(f"The job was accepted, but a failover could lose it. {error}") from error
    except RedisError as error:
        if isinstance(error, Refusal):
            raise NotReady(f"The job store cannot write at the moment ({error.code}); try again.") from error
        raise SubmitOutcomeUnknown(
            "The job store went away while it took the job; it may have been accepted."
        ) from error
    except QueueFull as error:
        raise _with_retry_after(error, backend, card) from None
    audit.log("job_submitted", job=accepted, queue=card.queue)
    return accepted


def check_room(backend: Backend, kind: str, file_bytes: int = 0) -> None:
    """Raise `QueueFull` if no queue of this kind has room for another job of the caller with such files.

    A route checks this before it reads a long upload. Raises `NotReady` if Redis is almost full.
    """
    backend.redis_memory.check_room()
    full = None
    for card in backend.registry.models():
        if card.kind == kind:
            try:
                return _check_room(backend, card, file_bytes)
            except QueueFull as error:
                full = error
    if full:
        raise full
    return None


def cancel(backend: Backend, job_id: str) -> JobState:
    """Cancel the job and return its state afterwards. Raises `JobNotFound`."""
    return backend.dispatcher.cancel(job_id)


def _check_room(backend: Backend, card: ModelCard, file_bytes: int = 0, known: bool = False) -> None:
    if known:
        return
    try:
        backend.queues.check_room(card.queue, access.owner(), file_bytes)
    except QueueFull as error:
        raise _with_retry_after(error, backend, card) from None


def _check_times(backend: Backend, spec: JobSpec) -> None:
    """Raise `InvalidInput` if the spec asks for more time than the settings allow."""
    settings = backend.settings
    for name, limit_s in (("timeout_s", settings.max_timeout_s), ("max_queue_s", settings.max_queue_limit_s)):
        if (getattr(spec, name) or 0) > limit_s:
            raise InvalidInput(name, f"may be at most {limit_s:g} here")


def _check_length(backend: Backend, spec: JobSpec) -> None:
    """Raise `InvalidInput` if the job alone counts for more jobs than the caller's key may have."""
    if (key := access.key()) is None or spec.length == 1:
        return
    waiting = backend.settings.max_waiting_per_key if key.max_waiting is None else key.max_waiting
    most = waiting if key.max_running is None else min(waiting, key.max_running)
    if spec.length > most:
        raise InvalidInput("n", f"may be at most {most} for this API key")


def _with_retry_after(error: QueueFull, backend: Backend, card: ModelCard) -> QueueFull:
    """Return the error with the time after which the queue may have room."""
    if not isinstance(error, StorageFull):
        error.retry_after_s = _retry_after_s(backend, card.queue)
    return error


def _retry_after_s(backend: Backend, name: str) -> int:
    """Return the seconds until one of the queue's waiting jobs starts, at the measured rate."""
    queue = backend.queues.info(name)
    if queue.estimated_wait_s is None:
        return RETRY_AFTER_S
    return max(1, math.ceil(queue.estimated_wait_s / (queue.waiting + 1)))
