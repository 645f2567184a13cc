"""The routes `/v1/chat/completions` and `/v1/models` of OpenAI's API."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Protocol

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from webapi.auth import access
from webapi.description.parts import EVENT_STREAM, header, sse_event
from webapi.description.route import AnswerSpec, Body, describe
from webapi.http.bodies import json_body
from webapi.http.problems import problem
from webapi.http.sse import HEADERS
from webapi.kinds.chat import prompt_tokens
from webapi.openai.comments import end_comments, with_comments
from webapi.openai.completion import CompletionBuilder
from webapi.openai.completion_body import ChatCompletionBody
from webapi.openai.conversations import CONVERSATION, begin, builder_of, without_silence
from webapi.openai.disconnects import cancel_unless_ended, while_connected
from webapi.openai.schema import ChatCompletion, Model, ModelList
from webapi.openai.translate import ParsedRequest, failure, parse_request
from webapi.services.backend import Backend, current_backend
from webapi.submission.model_choice import choose_model
from webapi.submission.submit import submit
from webapi.tracing.request_trace import TRACE_HEADERS
from worker.jobs.cards import ModelCard
from worker.jobs.errors import InvalidInput, ModelNotFound
from worker.jobs.events import ANSWER, LoggedEvent
from worker.jobs.ids import new_job_id
from worker.jobs.kinds import KINDS
from worker.jobs.ledger.ledger import IdempotencyKey
from worker.jobs.specs import ChatJob, JobSpec

__all__ = [
    "JOB",
    "JOB_HEADER",
    "SUBMIT_ERRORS",
    "error_response",
    "named_model",
    "routes",
    "stream_response",
    "submit_named",
    "unknown_model",
]

routes = Blueprint("openai", __name__)

#: The response header with the job's id, for the native routes under /v1/jobs/{id}.
JOB_HEADER = "X-Stoker-Job"
JOB = {JOB_HEADER: header("The job's id in the native API.", required=False)}
#: Error statuses of a submit, besides those of every route.
SUBMIT_ERRORS = (400, 404, 408, 413, 415, 429)


class StreamBuilder(Protocol):
    """A builder of the chunks of a stream."""

    def stream(self, events: Iterable[LoggedEvent | str]) -> Iterator[str]:
        """Yield the events of the answer as Server-Sent Events. Texts are comments."""


@routes.post("/v1/chat/completions")
@describe(
    "submit",
    {
        200: AnswerSpec(
            "The answer. With `stream`, `data:` lines with one ChatCompletionChunk each, then `[DONE]`. "
            "A silent stream has comments, such as `: queued, place 3`.",
            ChatCompletion,
            JOB,
            {EVENT_STREAM: sse_event({"description": "A ChatCompletionChunk as JSON, or `[DONE]`."})},
        )
    },
    (*SUBMIT_ERRORS, 409, 504),
    Body(ChatCompletionBody),
    parameters=(*CONVERSATION, *TRACE_HEADERS),
    submits=ChatJob.kind,
)
def complete() -> ResponseReturnValue:
    """Answer a conversation, in one response or as a stream of chunks."""
    backend, parsed = current_backend(), parse_request(json_body())
    backend.streams.count(access.owner())
    job_id, silence_s = new_job_id(), backend.settings.stream_silence_s
    items: Iterable[LoggedEvent | str]
    with begin(backend, parsed) as (job, key):
        if key is None:
            events = _submit_and_follow(backend, job_id, job)
        else:
            job_id = submit_named(backend, job_id, job, key)
    if key is None:
        builder = _builder(backend, job_id, parsed)
        items = with_comments(events, silence_s)
    else:
        builder = builder_of(backend.ledger.get(job_id), parsed)
        events = while_connected(backend, job_id, request.environ)
        items = without_silence(events)
    if parsed.request.stream:
        response = stream_response(builder, items)
        response.call_on_close(events.close)
    else:
        response = _whole(builder, events)
    response.headers[JOB_HEADER] = job_id
    return response


def _submit_and_follow(backend: Backend, job_id: str, job: ChatJob) -> Generator[LoggedEvent | None]:
    """Submit the job, and return its events as `cancel_on_disconnect` does.

    The subscription to the events goes to Redis first, while this process prepares the submit.
    """
    events = while_connected(backend, job_id, request.environ, backend.settings.stream_silence_s, new=True)
    next(events, None)
    try:
        submit_named(backend, job_id, job)
    except BaseException:
        events.close()
        raise
    return cancel_unless_ended(backend, job_id, events)


def _builder(backend: Backend, job_id: str, parsed: ParsedRequest) -> CompletionBuilder:
    """Return the builder of an answer without reading the job's record, if possible."""
    model = parsed.job.model or backend.ledger.get(job_id).model
    tokens = None
    if parsed.request.continuous_usage:
        tokens = prompt_tokens(backend, choose_model(backend, parsed.job), parsed.job)
    return CompletionBuilder(job_id, model, backend.store.clock.now(), parsed, tokens)


def _whole(builder: CompletionBuilder, events: Iterable[LoggedEvent | None]) -> Response:
    """Return the completion, or the error of a job that does not succeed."""
    tokens: list[LoggedEvent] = []
    for event in events:
        if event and event.type == "succeeded":
            completion = builder.completion(event, tokens)
            return Response(completion.model_dump_json(), mimetype="application/json")
        if event and event.terminal:
            return error_response(event)
        if event and event.type in ANSWER and builder.needs_events:
            tokens.append(event)
    return error_response(None)


def stream_response(builder: StreamBuilder, items: Iterable[LoggedEvent | str]) -> Response:
    """Return the stream of a job's events and comments, or an error if the job ends before the first of them.

    A comment opens the stream, too. Later errors are a part of the stream, because its status is 200.
    """
    for item in items:
        if isinstance(item, str) or item.type in ANSWER | {"succeeded"}:
            chunks = builder.stream(chain([item], items))
            return Response(end_comments(chunks), mimetype="text/event-stream", headers=HEADERS)
        if item.terminal:
            return error_response(item)
    return error_response(None)


def error_response(terminal_event: LoggedEvent | None) -> Response:
    """Return the error of a job that has ended without an answer. None means that it was deleted."""
    why = failure(terminal_event)
    response = problem(why.status, why.code, why.message)
    if not why.retryable:
        response.headers["X-Should-Retry"] = "false"  # else OpenAI's clients would submit another job
    return response


def submit_named(
    backend: Backend, job_id: str, spec: JobSpec, once: IdempotencyKey | None = None, file_bytes: int = 0
) -> str:
    """Submit the job and return its id.

    Raises `ModelNotFound` if no worker serves the model, because OpenAI's clients expect status 404.
    All other errors are those of `webapi.submission.submit.submit`.
    """
    with unknown_model():
        return submit(backend, job_id, spec, once, file_bytes)


def named_model(backend: Backend, spec: JobSpec) -> ModelCard:
    """Return the model that the spec names (`choose_model`), with the errors of `submit_named`."""
    with unknown_model():
        return choose_model(backend, spec)


@contextmanager
def unknown_model() -> Iterator[None]:
    """Raise `ModelNotFound` if the block, which chooses a model, finds that it does not exist."""
    try:
        yield
    except InvalidInput as error:
        if error.field == "model":
            raise ModelNotFound("model", str(error)) from None
        raise


@routes.get("/v1/models")
@describe("read", {200: AnswerSpec("The models.", ModelList)})
def models() -> ResponseReturnValue:
    """List the models that workers serve: chat models first, the default one at the head."""
    return ModelList(data=list(_models(current_backend()).values())).model_dump()


@routes.get("/v1/models/<path:name>")
@describe("read", {200: AnswerSpec("The model.", Model)}, (404,))
def model(name: str) -> ResponseReturnValue:
    """Show a model."""
    found = _models(current_backend()).get(name)
    if found is None:
        raise ModelNotFound("model", f"The model {name!r} does not exist.")
    return found.model_dump()


def _models(backend: Backend) -> dict[str, Model]:
    """Return the models by name: chat models first, and the default one of each kind before the others.

    Many clients take the first model for a chat. If a chat and a video model share a name, the chat model is
    returned.
    """
    settings, kinds = backend.settings, [*KINDS]
    cards = [card for card in backend.registry.served_models() if card.kind in settings.kinds]
    cards.sort(key=lambda card: (kinds.index(card.kind), card.name != settings.model_name(card.kind)))
    models: dict[str, Model] = {}
    for card in cards:
        parameters = None if card.schema is None else dict(card.schema)
        facts = {"parent": card.parent, "max_model_len": card.context_length, "parameters": parameters}
        models.setdefault(card.name, Model(id=card.name, root=card.name, **facts))
    return models
