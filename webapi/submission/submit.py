"""Submission: a validated job onto the queue of the model that it asks for."""

import logging
import math

from redis.exceptions import RedisError

from webapi.auth import access
from webapi.http.problems import RETRY_AFTER_S
from webapi.services.backend import Backend
from webapi.webhooks.addresses import check_url
from worker.jobs.dispatch.dispatcher import dispatch, dispatch_next
from worker.jobs.errors import (
    InvalidInput,
    JobNotFound,
    NotReady,
    PromptTooLong,
    QueueFull,
    SubmitOutcomeUnknown,
)
from worker.jobs.ledger.ledger import IdempotencyKey
from worker.jobs.records import JobState, ModelCard
from worker.jobs.specs import ChatJob, JobSpec

__all__ = ["cancel", "check_room", "submit"]

logger = logging.getLogger(__name__)


def submit(backend: Backend, job_id: str, spec: JobSpec, once: IdempotencyKey | None = None) -> str:
    """Queue the caller's job; its id, which is another one's if `once` has made that before.

    Raises `InvalidInput`, `NotReady` or `QueueFull`: nothing has happened. Except for `SubmitOutcomeUnknown`,
    a
    `NotReady`: then the job may have been queued.
    """
    owner, card = access.owner(), _model(backend, spec)
    if spec.webhook_url is not None:
        check_url(backend.settings, spec.webhook_url)
    if isinstance(spec, ChatJob):
        _check_length(backend, card, spec, known=once is not None)
    try:
        named = spec.model_copy(update={"model": card.name})
        accepted = backend.ledger.submit(job_id, card.queue, named, owner, once)
    except RedisError as error:
        raise SubmitOutcomeUnknown(
            "The job store went away while it took the job; it may have been accepted."
        ) from error
    except QueueFull as error:
        raise QueueFull(str(error), _until_a_place_is_free(backend, card.queue)) from None
    logger.info("job %s: %s submitted to %s", accepted.job_id, spec.kind, card.queue)
    dispatch(card.queue, accepted.dispatched)
    return accepted.job_id


def check_room(backend: Backend, kind: str) -> None:
    """Raise `QueueFull` if no queue of this kind takes another job of the caller's; before a long upload."""
    full = None
    for card in backend.registry.models():
        if card.kind == kind:
            try:
                return _check_room(backend, card)
            except QueueFull as error:
                full = error
    if full:
        raise full
    return None


def cancel(backend: Backend, job_id: str) -> JobState:
    """Cancel the job; its state afterwards. Whom it made room for is called at once."""
    state = backend.ledger.cancel(job_id)
    logger.info("job %s: cancel, now %s", job_id, state)
    if state == "canceled":
        try:
            dispatch_next(backend.ledger, backend.ledger.get(job_id).queue)
        except (JobNotFound, RedisError) as error:
            logger.info("job %s: recovery calls who is next: %s", job_id, error)
    return state


def _check_room(backend: Backend, card: ModelCard) -> None:
    try:
        backend.queues.check_room(card.queue, access.owner())
    except QueueFull as error:
        raise QueueFull(str(error), _until_a_place_is_free(backend, card.queue)) from None


def _model(backend: Backend, spec: JobSpec) -> ModelCard:
    """The model that the spec names, else the configured one, else the only one."""
    if known := backend.served_models.get((spec.kind, spec.model or "")):
        return known
    served = {card.name: card for card in backend.registry.models() if card.kind == spec.kind}
    if not served:
        raise NotReady(f"no worker has served a {spec.kind} model yet")
    name = spec.model
    if name is None:
        name = backend.settings.model_name(spec.kind)
        if len(served) == 1:
            name = next(iter(served))
    if name not in served:
        raise InvalidInput("model", f"{name} is not served; these are: {', '.join(served)}")
    return served[name]


def _check_length(backend: Backend, card: ModelCard, spec: ChatJob, known: bool) -> None:
    """Raise `PromptTooLong`; `QueueFull` before a long count, unless the job may be there already."""
    if not (known or backend.token_counter.is_short(spec.messages)):
        _check_room(backend, card)
    context = math.inf if card.context_length is None else card.context_length
    room = f"and must leave room in the context of {context}"
    # Far too long ones would keep the others from being counted.
    if (tokens := backend.token_counter.lower_bound(card, spec.messages)) >= context:
        raise PromptTooLong("messages", f"the prompt has at least {tokens} tokens {room}")
    if (tokens := backend.token_counter.count(card, spec.messages)) >= context:
        raise PromptTooLong("messages", f"the prompt has {tokens} tokens {room}")


def _until_a_place_is_free(backend: Backend, name: str) -> int:
    """Seconds until one of the waiting jobs starts, at the rate that was measured."""
    queue = backend.queues.get(name)
    if queue.estimated_wait_s is None:
        return RETRY_AFTER_S
    return max(1, math.ceil(queue.estimated_wait_s / (queue.waiting + 1)))
