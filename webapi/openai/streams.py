"""The routes of llama.cpp's protocol, by which a client joins the answer of its conversation again."""

from collections.abc import Iterator

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field, RootModel

from webapi.auth import access
from webapi.description.parts import EVENT_STREAM, sse_event
from webapi.description.route import AnswerSpec, Body, describe
from webapi.http.bodies import json_body, query
from webapi.http.sse import HEADERS
from webapi.openai.conversations import (
    ConversationJob,
    builder_of,
    bytes_behind,
    end,
    find,
    is_current,
    read_job,
    without_silence,
)
from webapi.openai.disconnects import while_connected
from webapi.openai.routes import JOB, JOB_HEADER
from webapi.services.backend import Backend, current_backend
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, validate

__all__ = ["routes"]

routes = Blueprint("conversations", __name__)

#: Newest jobs of a key among which the list looks for answers.
SEARCHED_JOBS = 200
#: Seconds for which the list shows an answer that has ended.
SHOWN_S = 300


class StreamQuery(BaseModel):
    """The query of a stream. `from` is the number of bytes that the client has."""

    start: int = Field(0, ge=0, le=2**53, alias="from")


class NamedStreamQuery(StreamQuery):
    """The query of a stream that also names the conversation."""

    conv_id: str = Field(min_length=1)


class NamedQuery(BaseModel):
    """The query that names a conversation."""

    conv_id: str = Field(min_length=1)


class ListQuery(BaseModel):
    """The query of the list of streams."""

    conversation_id: str | None = None


class Lookup(BaseModel):
    """The conversations whose streams are looked up."""

    model_config = ConfigDict(strict=True)

    conversation_ids: list[str] = Field(max_length=1000)


class StreamSession(BaseModel):
    """The answer of a conversation. Times are in seconds since the epoch; `completed_at` is 0 until the end.

    `total_bytes` is the number of bytes of its stream so far.
    """

    conversation_id: str
    is_done: bool
    total_bytes: int
    started_at: int
    completed_at: int


class StreamSessions(RootModel[list[StreamSession]]):
    """Answers of conversations, newest first."""


JOINED = {
    200: AnswerSpec(
        "The answer as `data:` lines with one ChatCompletionChunk each, then `[DONE]`, without its first "
        "`from` bytes.",
        headers=JOB,
        content={EVENT_STREAM: sse_event({"description": "A ChatCompletionChunk as JSON, or `[DONE]`."})},
    )
}
SESSIONS = {200: AnswerSpec("The answers that go on, and those that ended a while ago.", StreamSessions)}
STOPPED = {204: AnswerSpec("The conversation has no answer any more.")}


@routes.get("/v1/stream/<path:conversation_id>")
@describe("read", JOINED, (400, 404, 429), query=StreamQuery)
def join(conversation_id: str) -> ResponseReturnValue:
    """Join the answer of a conversation, from any byte on, up to its end."""
    return _join(conversation_id, query(StreamQuery).start)


@routes.get("/v1/stream")
@describe("read", JOINED, (400, 404, 429), query=NamedStreamQuery)
def join_named() -> ResponseReturnValue:
    """Join the answer of the conversation that the query names."""
    asked = query(NamedStreamQuery)
    return _join(asked.conv_id, asked.start)


def _join(name: str, start: int) -> Response:
    backend = current_backend()
    record, job = find(backend, name)
    backend.streams.count(access.owner())
    events = while_connected(backend, record.id, request.environ)
    texts = builder_of(record, job.parsed).stream(without_silence(events))
    response = Response(bytes_behind(texts, start), mimetype="text/event-stream", headers=HEADERS)
    response.call_on_close(events.close)
    response.headers[JOB_HEADER] = record.id
    return response


@routes.delete("/v1/stream/<path:conversation_id>")
@describe("submit", STOPPED)
def stop(conversation_id: str) -> ResponseReturnValue:
    """End the answer of a conversation. It can be repeated."""
    end(current_backend(), conversation_id)
    return "", 204


@routes.delete("/v1/stream")
@describe("submit", STOPPED, (400,), query=NamedQuery)
def stop_named() -> ResponseReturnValue:
    """End the answer of the conversation that the query names."""
    end(current_backend(), query(NamedQuery).conv_id)
    return "", 204


@routes.get("/v1/streams")
@describe("read", SESSIONS, (400,), query=ListQuery)
def list_streams() -> ResponseReturnValue:
    """List the answers of the caller's conversations, or of one of them."""
    name = query(ListQuery).conversation_id
    return _sessions(None if name is None else [name])


@routes.post("/v1/streams/lookup")
@describe("read", SESSIONS, (400, 408, 413, 415), Body(Lookup))
def look_up() -> ResponseReturnValue:
    """List the answers of the conversations that the body names."""
    return _sessions(validate(Lookup, json_body(), "ignore").conversation_ids)


def _sessions(names: list[str] | None) -> Response:
    """Return the caller's answers, or those of these conversations and of their variants `name::model`."""
    backend = current_backend()
    found = (
        _session(backend, record, job)
        for record, job in _recent(backend)
        if names is None or {job.conversation.id, job.conversation.id.partition("::")[0]} & {*names}
    )
    return Response(StreamSessions([*found]).model_dump_json(), mimetype="application/json")


def _recent(backend: Backend) -> Iterator[tuple[Record, ConversationJob]]:
    """Yield the newest answer of each conversation, unless it ended long ago."""
    since = backend.store.clock.now() - SHOWN_S
    for record in backend.ledger.page(ChatJob.kind, limit=SEARCHED_JOBS, owner=access.owner()):
        job = read_job(record)
        if job and (record.finished_at or since) >= since and is_current(backend, record, job):
            yield record, job


def _session(backend: Backend, record: Record, job: ConversationJob) -> StreamSession:
    texts = [*builder_of(record, job.parsed).stream(backend.ledger.events(record.id))]
    if not record.terminal:
        texts.pop()  # what the builder says of a log without an end
    return StreamSession(
        conversation_id=job.conversation.id,
        is_done=record.terminal,
        total_bytes=sum(map(len, texts)),
        started_at=int(record.created_at),
        completed_at=int(record.finished_at or 0),
    )
