"""The routes of OpenAI's Responses API."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from webapi.auth import access
from webapi.description.parts import EVENT_STREAM, sse_event
from webapi.description.route import AnswerSpec, Body, describe
from webapi.http.bodies import json_body, query
from webapi.openai.disconnects import cancel_on_disconnect
from webapi.openai.routes import JOB, JOB_HEADER, SUBMIT_ERRORS, submit_named
from webapi.responses.delivery import document_at_end, forget, stream
from webapi.responses.document import DeletedResponse, ResponseDocument
from webapi.responses.fold import ResponseFold
from webapi.responses.input_list import InputItemList, InputItemQuery
from webapi.responses.job import ResponseJob, make_job
from webapi.responses.request import ResponseRequest, read_request
from webapi.responses.stored import conversation_after, find_response, response_of
from webapi.services.backend import Backend, current_backend
from webapi.services.follow import follow
from webapi.submission.request_preferences import IDEMPOTENCY, read_idempotency_key, wait_for_end
from webapi.submission.submit import cancel as cancel_job
from worker.jobs.errors import InvalidInput
from worker.jobs.ids import new_job_id
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob

__all__ = ["routes"]

routes = Blueprint("responses", __name__, url_prefix="/v1/responses")

#: Seconds that a cancel waits for the end of a running job. Its worker ends it at the next step.
CANCEL_WAIT_S = 5.0
#: The fields of requests that become other fields of chat jobs, by the latter.
ASKED_AS = {"messages": "input", "response_format": "text.format", "logprobs": "top_logprobs"}
EVENTS = {
    EVENT_STREAM: sse_event({"description": "An event of OpenAI's Responses API as JSON."}),
}


@routes.post("")
@describe(
    "submit",
    {
        200: AnswerSpec(
            "The response. With `stream`, its events. A silent stream has comments, such as "
            "`: queued, place 3`.",
            ResponseDocument,
            JOB,
            EVENTS,
        )
    },
    (*SUBMIT_ERRORS, 409, 504),
    Body(ResponseRequest),
    parameters=IDEMPOTENCY,
    submits=ChatJob.kind,
)
def create() -> ResponseReturnValue:
    """Create a response, and return it whole or as a stream of events.

    With `background` the request does not wait for its end.
    """
    backend = current_backend()
    asked, fields = read_request(json_body())
    waits = asked.stream or not asked.background
    if waits:
        backend.streams.count(access.owner())
    job_id, job = _submit(backend, asked, fields)
    record = backend.ledger.get(job_id)
    response = _deliver(backend, record, job, asked.stream) if waits else _document(backend, record, job)
    response.headers[JOB_HEADER] = job_id
    return response


def _submit(backend: Backend, asked: ResponseRequest, fields: Mapping[str, Any]) -> tuple[str, ResponseJob]:
    """Submit the job of the request. Return its id and the job."""
    previous = asked.previous_response_id
    earlier = [] if previous is None else conversation_after(backend, previous)
    try:
        job = make_job(asked, fields, earlier)
        return submit_named(backend, new_job_id(), job, read_idempotency_key(job)), job
    except InvalidInput as error:
        error.field = ASKED_AS.get(error.field.partition(".")[0], error.field)
        raise


def _deliver(backend: Backend, record: Record, job: ResponseJob, streams: bool) -> Response:
    """Return the response or its events. Unless it is in the background, a disconnect cancels it."""
    fold, silence_s = ResponseFold(record, job), backend.settings.stream_silence_s
    if job.response.background:
        log = follow(backend, record.id, 0, silence_s)
    else:
        log = cancel_on_disconnect(backend, record.id, request.environ, silence_s)
    response = stream(fold, log, silence_s) if streams else document_at_end(fold, log)
    response.call_on_close(log.close)
    if not job.response.store and job.webhook_url is None:
        response.call_on_close(lambda: forget(backend, record.id))
    return response


def _document(backend: Backend, record: Record, job: ResponseJob) -> Response:
    document = response_of(backend, record, job)
    if not access.may("read"):
        document["output"] = []
    return jsonify(document)


class ResponseQuery(BaseModel):
    """The query of a response."""

    stream: bool = False
    starting_after: int | None = Field(None, ge=0, le=2**53)


@routes.get("/<response_id>")
@describe(
    "read",
    {
        200: AnswerSpec(
            "The response. With `stream`, its events behind number `starting_after`, up to its end.",
            ResponseDocument,
            JOB,
            EVENTS,
        )
    },
    (400, 404, 429),
    query=ResponseQuery,
)
def show(response_id: str) -> ResponseReturnValue:
    """Show a response, or stream its events from any of them on."""
    backend, asked = current_backend(), query(ResponseQuery)
    record, job = find_response(response_id)
    if not asked.stream:
        response = _document(backend, record, job)
    else:
        backend.streams.count(access.owner())
        silence_s, after = backend.settings.stream_silence_s, asked.starting_after
        log = follow(backend, record.id, 0, silence_s)
        response = stream(ResponseFold(record, job), log, silence_s, -1 if after is None else after)
        response.call_on_close(log.close)
    response.headers[JOB_HEADER] = record.id
    return response


@routes.get("/<response_id>/input_items")
@describe("read", {200: AnswerSpec("A page of items.", InputItemList)}, (400, 404), query=InputItemQuery)
def input_items(response_id: str) -> ResponseReturnValue:
    """List the conversation that a response answers."""
    record, job = find_response(response_id)
    return InputItemList.of(record.id, job, query(InputItemQuery)).model_dump()


@routes.post("/<response_id>/cancel")
@describe("submit", {200: AnswerSpec("The response.", ResponseDocument, JOB)}, (404,))
def cancel(response_id: str) -> ResponseReturnValue:
    """Cancel a response. One that has ended stays as it is.

    If the response is still `in_progress` in the answer, its worker ends it at the next step. A key without
    the scope `read` gets no output.
    """
    backend = current_backend()
    record, job = find_response(response_id)
    if cancel_job(backend, record.id) == "running":
        wait_for_end(backend, record.id, CANCEL_WAIT_S)
    response = _document(backend, backend.ledger.get(record.id), job)
    response.headers[JOB_HEADER] = record.id
    return response


@routes.delete("/<response_id>")
@describe("submit", {200: AnswerSpec("The response is deleted.", DeletedResponse)}, (404, 409))
def delete(response_id: str) -> ResponseReturnValue:
    """Delete a response. One that has not ended is canceled first."""
    backend = current_backend()
    record, _ = find_response(response_id)
    if cancel_job(backend, record.id) == "running":
        for _ in follow(backend, record.id, record.events):
            pass  # wait for the terminal event
    backend.forget(record.id)
    return DeletedResponse(id=response_id).model_dump()
