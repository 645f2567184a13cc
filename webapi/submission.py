"""Submission: a validated job onto the queue of the model that it asks for."""

import logging
import math

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from webapi import access
from webapi.addresses import check_url
from webapi.backend import Backend
from webapi.problems import RETRY_AFTER_S
from worker.jobs.broker import send_hint
from worker.jobs.errors import InvalidInput, NotReady, QueueFull, Unanswered
from worker.jobs.records import ModelCard
from worker.jobs.specs import ChatJob, JobSpec

__all__ = ["submit"]

logger = logging.getLogger(__name__)


def submit(stoker: Backend, job_id: str, spec: JobSpec) -> str:
    """Queue the caller's job; its id. Raises `InvalidInput`, `NotReady` or `QueueFull`: nothing has happened.

    Except for `Unanswered`, a `NotReady`: then the job may have been queued.
    """
    if spec.webhook_url is not None:
        check_url(stoker.settings, spec.webhook_url)
    card = _model(stoker, spec)
    if isinstance(spec, ChatJob):
        _check_length(stoker, card, spec)
    try:
        stoker.ledger.submit(job_id, card.queue, spec.model_copy(update={"model": card.name}), access.owner())
    except RedisError as error:
        raise Unanswered(
            "The job store went away while it took the job; it may have been accepted."
        ) from error
    except QueueFull as error:
        raise QueueFull(str(error), _until_a_place_is_free(stoker, card.queue)) from None
    logger.info("job %s: %s submitted to %s", job_id, spec.kind, card.queue)
    try:
        send_hint(spec.kind, job_id, card.queue)
    except (OperationalError, RedisError) as error:
        logger.warning("job %s: its hint was not sent, recovery will: %s", job_id, error)
    return job_id


def _model(stoker: Backend, spec: JobSpec) -> ModelCard:
    """The model that the spec names, else the configured one, else the only one."""
    served = {card.name: card for card in stoker.registry.models() if card.kind == spec.kind}
    if not served:
        raise NotReady(f"no worker has served a {spec.kind} model yet")
    name = spec.model
    if name is None:
        name = stoker.settings.model_name(spec.kind)
        if len(served) == 1:
            name = next(iter(served))
    if name not in served:
        raise InvalidInput("model", f"{name} is not served; these are: {', '.join(served)}")
    return served[name]


def _check_length(stoker: Backend, card: ModelCard, spec: ChatJob) -> None:
    tokens = stoker.prompts.count(card, spec.messages)
    if card.context_length is not None and tokens >= card.context_length:
        raise InvalidInput(
            "messages",
            f"the prompt has {tokens} tokens and must leave room in the context of {card.context_length}",
        )


def _until_a_place_is_free(stoker: Backend, name: str) -> int:
    """Seconds until one of the waiting jobs starts."""
    for queue in stoker.registry.queues():
        if queue.name == name and queue.estimated_wait_s is not None:
            return max(1, math.ceil(queue.estimated_wait_s / (queue.waiting + 1)))
    return RETRY_AFTER_S  # nothing was measured yet
