"""The model that runs a job: the one that the request names, or the default one."""

from webapi.services.backend import Backend
from worker.jobs.errors import InvalidInput, NotReady
from worker.jobs.records import ModelCard
from worker.jobs.specs import JobSpec

__all__ = ["choose_model"]


def choose_model(backend: Backend, spec: JobSpec) -> ModelCard:
    """Return the model that the spec names.

    Without a name it is the only model of the spec's kind, or the configured one if there are several.

    Raises `NotReady` if no model of the kind is served, and `InvalidInput` if this one is not.
    """
    if known := backend.served_models.get((spec.kind, spec.model or "")):
        return known
    cards = backend.registry.models()
    served = {card.name: card for card in cards if card.kind == spec.kind}
    if not served:
        raise NotReady(f"no worker has served a {spec.kind} model yet")
    name = spec.model
    if name is None:
        name = backend.settings.model_name(spec.kind)
        if len(served) == 1:
            name = next(iter(served))
    if name not in served:
        others = [card.kind for card in cards if card.name == name]
        fault = (
            f"{name} is a {others[0]} model, for jobs at /v1/jobs/{others[0]}"
            if others
            else f"the model {name} does not exist"
        )
        raise InvalidInput("model", f"{fault}; the {spec.kind} models here are: {', '.join(served)}")
    return served[name]
