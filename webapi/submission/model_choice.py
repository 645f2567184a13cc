"""The model that runs a job: the one that the request names, or the default one."""

from collections.abc import Mapping, Sequence

from webapi.auth import access
from webapi.services.backend import Backend
from worker.jobs.cards import ModelCard
from worker.jobs.errors import InvalidInput, ModelUnavailable, NotReady
from worker.jobs.specs import JobSpec

__all__ = ["choose_model"]


def choose_model(backend: Backend, spec: JobSpec, key: str | None = None) -> ModelCard:
    """Return the model that the spec names.

    Without a name it is the only model of the spec's kind, or the configured one if there are several.
    Adapters do not count.

    Raises `NotReady` if no model of the kind was ever served, and `InvalidInput` if this one was not. Raises
    `ModelUnavailable` if its workers have left, unless the spec has a `max_queue_s`, or the request's
    idempotency key has made the job before.
    """
    if current := backend.served_models.get((spec.kind, spec.model or "")):
        return current
    cards, queues = backend.registry.models(), backend.registry.served_queues()
    known = {card.name: card for card in cards if card.kind == spec.kind}
    if not known:
        raise NotReady(f"no worker has served a {spec.kind} model yet")
    served = {name: card for name, card in known.items() if card.queue in queues}
    name = spec.model or _default(backend, spec.kind, served or known)
    here = f"the {spec.kind} models here are: {', '.join(served) or 'none at the moment'}"
    if name not in known:
        raise InvalidInput("model", f"{_fault(name, cards)}; {here}")
    made = key is not None and backend.ledger.has_job_for(access.owner(), key)
    if name not in served and spec.max_queue_s is None and not made:
        way_out = "try again later, or let the job wait by `max_queue_s`"
        raise ModelUnavailable(f"no worker serves the model {name} now, so {way_out}; {here}")
    return known[name]


def _default(backend: Backend, kind: str, models: Mapping[str, ModelCard]) -> str:
    names = [name for name, card in models.items() if card.parent is None]
    return names[0] if len(names) == 1 else backend.settings.model_name(kind)


def _fault(name: str, cards: Sequence[ModelCard]) -> str:
    for card in cards:
        if card.name == name:
            return f"{name} is a {card.kind} model, for jobs at /v1/jobs/{card.kind}"
    return f"the model {name} does not exist"
