"""OpenAI's chat and model routes."""

import uuid
from itertools import chain

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from webapi.http.bodies import json_body
from webapi.http.problems import problem
from webapi.http.sse import HEADERS
from webapi.openai.disconnects import cancel_on_disconnect
from webapi.openai.schema import Model, ModelList
from webapi.openai.translate import CompletionBuilder, failure, parse_request
from webapi.services.backend import Backend, current_backend
from webapi.submission.submit import submit
from worker.jobs.errors import InvalidInput, ModelNotFound
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.ledger import IdempotencyKey
from worker.jobs.specs import JobSpec

__all__ = ["JOB_HEADER", "routes", "submit_named"]

routes = Blueprint("openai", __name__)

#: Under which name a job is found at /v1/jobs/{id}.
JOB_HEADER = "X-Stoker-Job"


@routes.post("/v1/chat/completions")
def complete() -> ResponseReturnValue:
    """Answer a conversation, at once or chunk by chunk."""
    backend, wanted = current_backend(), parse_request(json_body())
    job_id = submit_named(backend, uuid.uuid4().hex, wanted.job)
    model = wanted.job.model or str(backend.ledger.get(job_id).spec.model)
    answer = CompletionBuilder(job_id, model, wanted.request.include_usage)
    events = cancel_on_disconnect(backend, job_id, request.environ)
    awaited = ("token", "succeeded") if wanted.request.stream else ("succeeded",)
    event = next((event for event in events if event.type in awaited or event.terminal), None)
    if event is None or event.type not in awaited:
        response = _no_answer(event)
    elif wanted.request.stream:
        lines = answer.stream(chain([event], events))
        response = Response(lines, mimetype="text/event-stream", headers=HEADERS)
        response.call_on_close(events.close)
    else:
        response = Response(answer.completion(event).model_dump_json(), mimetype="application/json")
    response.headers[JOB_HEADER] = job_id
    return response


def _no_answer(ending: LoggedEvent | None) -> Response:
    why = failure(ending)
    response = problem(why.status, why.code, why.message)
    if not why.worth_a_retry:
        response.headers["X-Should-Retry"] = "false"  # OpenAI's clients would submit another job
    return response


def submit_named(backend: Backend, job_id: str, spec: JobSpec, once: IdempotencyKey | None = None) -> str:
    """Submit, but for a model that is not served raise `ModelNotFound`, as OpenAI's clients expect."""
    try:
        return submit(backend, job_id, spec, once)
    except InvalidInput as error:
        if error.field == "model":
            raise ModelNotFound("model", f"The model {spec.model!r} does not exist: {error}") from None
        raise


@routes.get("/v1/models")
def models() -> ResponseReturnValue:
    """The models that workers serve, of all kinds."""
    return ModelList(data=list(_models(current_backend()).values())).model_dump()


@routes.get("/v1/models/<path:name>")
def model(name: str) -> ResponseReturnValue:
    """One of them."""
    found = _models(current_backend()).get(name)
    if found is None:
        raise ModelNotFound("model", f"The model {name!r} does not exist.")
    return found.model_dump()


def _models(backend: Backend) -> dict[str, Model]:
    """By name; a chat and a video model may share one."""
    cards = backend.registry.models()
    return {card.name: Model(id=card.name, max_model_len=card.context_length) for card in reversed(cards)}
