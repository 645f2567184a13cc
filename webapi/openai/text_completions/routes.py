"""The route `/v1/completions` of OpenAI's older API."""

from collections.abc import Iterable, Sequence

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from webapi.auth import access
from webapi.description.parts import EVENT_STREAM, sse_event
from webapi.description.route import AnswerSpec, Body, describe
from webapi.http.bodies import json_body
from webapi.kinds.chat import prompt_tokens
from webapi.openai.comments import with_comments
from webapi.openai.disconnects import cancel_all_on_disconnect
from webapi.openai.routes import (
    JOB,
    JOB_HEADER,
    SUBMIT_ERRORS,
    error_response,
    named_model,
    stream_response,
    submit_named,
)
from webapi.openai.text_completions.body import TextCompletionBody
from webapi.openai.text_completions.builder import TextCompletionBuilder
from webapi.openai.text_completions.request import ParsedCompletion, parse_completion
from webapi.openai.text_completions.schema import TextCompletion
from webapi.services.backend import Backend, current_backend
from webapi.submission.submit import cancel
from webapi.tracing.request_trace import TRACE_HEADERS
from worker.jobs.cards import ModelCard
from worker.jobs.events import LoggedEvent
from worker.jobs.ids import new_job_id
from worker.jobs.specs import ChatJob

__all__ = ["routes"]

routes = Blueprint("text_completions", __name__)


@routes.post("/v1/completions")
@describe(
    "submit",
    {
        200: AnswerSpec(
            "The answer. With `stream`, `data:` lines with one TextChunk each, then `[DONE]`. "
            "A silent stream has comments, such as `: queued, place 3`. "
            "The header has the ids of the jobs of all prompts, separated by commas.",
            TextCompletion,
            JOB,
            {EVENT_STREAM: sse_event({"description": "A TextChunk as JSON, or `[DONE]`."})},
        )
    },
    (*SUBMIT_ERRORS, 409, 504),
    Body(TextCompletionBody),
    parameters=TRACE_HEADERS,
    submits=ChatJob.kind,
)
def complete() -> ResponseReturnValue:
    """Continue one or more prompts without a chat template, in one response or as a stream of chunks."""
    backend, parsed = current_backend(), parse_completion(json_body())
    backend.streams.count(access.owner())
    card = named_model(backend, parsed.jobs[0])
    echoed = _texts(backend, card, parsed.jobs) if parsed.request.echo else []
    job_ids = _submit_all(backend, parsed.jobs)
    tokens = []
    if parsed.request.continuous_usage:
        tokens = [prompt_tokens(backend, card, job) for job in parsed.jobs]
    builder = TextCompletionBuilder(job_ids, card.name, backend.store.clock.now(), parsed, echoed, tokens)
    response = _response(backend, parsed, builder, job_ids)
    response.headers[JOB_HEADER] = ", ".join(job_ids)
    return response


def _response(
    backend: Backend, parsed: ParsedCompletion, builder: TextCompletionBuilder, job_ids: Sequence[str]
) -> Response:
    silence_s = backend.settings.stream_silence_s
    events = cancel_all_on_disconnect(backend, job_ids, request.environ, silence_s)
    if not parsed.request.stream:
        return _whole(builder, events)
    response = stream_response(builder, with_comments(events, silence_s))
    response.call_on_close(events.close)
    return response


def _whole(builder: TextCompletionBuilder, events: Iterable[LoggedEvent | None]) -> Response:
    """Return the completion, or the error of the first job that does not succeed."""
    seen = [event for event in events if event]
    last = seen[-1] if seen else None
    if last is None or last.type != "succeeded":
        return error_response(last if last and last.terminal else None)
    return Response(builder.completion(seen).model_dump_json(), mimetype="application/json")


def _texts(backend: Backend, card: ModelCard, jobs: Sequence[ChatJob]) -> Sequence[str]:
    """Return the texts of the prompts. Raises `InvalidInput` if the model lacks a token of one."""
    prompts = (job.prompt or "" for job in jobs)
    return [
        prompt if isinstance(prompt, str) else backend.token_counter.decode(card, prompt, "prompt")
        for prompt in prompts
    ]


def _submit_all(backend: Backend, jobs: Sequence[ChatJob]) -> Sequence[str]:
    """Submit the jobs and return their ids. If one of them is refused, the others are canceled."""
    submitted: list[str] = []
    try:
        for job in jobs:
            job_id = submit_named(backend, new_job_id(), job)
            submitted.append(job_id)
    except BaseException:
        for job_id in submitted:
            cancel(backend, job_id)
        raise
    return submitted
