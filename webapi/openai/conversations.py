"""Chats that outlive their clients: llama.cpp's protocol, in which a client names its conversation."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from flask import request
from pydantic import Field

from webapi.auth import access
from webapi.description.parts import parameter
from webapi.openai.completion import CompletionBuilder
from webapi.openai.schema import ChatCompletionRequest, StreamOptions
from webapi.openai.translate import ParsedRequest
from webapi.services.backend import Backend
from webapi.submission.submit import cancel
from worker.jobs.chat.nullable import Nullable
from worker.jobs.errors import InvalidInput, JobNotFound
from worker.jobs.events import LoggedEvent
from worker.jobs.ids import new_job_id
from worker.jobs.ledger.ledger import IdempotencyKey
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, read_spec

__all__ = [
    "CONVERSATION",
    "ConversationJob",
    "begin",
    "builder_of",
    "bytes_behind",
    "end",
    "find",
    "is_current",
    "read_job",
    "without_silence",
]

HEADER = "X-Conversation-Id"
MAX_LENGTH = 255

CONVERSATION = (
    parameter(
        HEADER,
        "The client's name of its conversation. The answer then goes on if the client disconnects, and "
        "`GET /v1/stream` joins it again. An earlier answer of the conversation that goes on is canceled.",
        type="string",
        minLength=1,
        maxLength=MAX_LENGTH,
    ),
)


class Conversation(Nullable):
    """The client's name of a conversation, and whether the stream of its answer ends with the usage."""

    id: str
    include_usage: bool = False


class ConversationJob(ChatJob):
    """A chat that outlives its client. Workers read a `ChatJob`, which ignores the conversation."""

    conversation: Conversation = Field(repr=False)

    @property
    def parsed(self) -> ParsedRequest:
        """The request for a stream of the answer."""
        options = StreamOptions(include_usage=self.conversation.include_usage)
        return ParsedRequest(ChatCompletionRequest(stream=True, stream_options=options), self)


@contextmanager
def begin(backend: Backend, parsed: ParsedRequest) -> Iterator[tuple[ChatJob, IdempotencyKey | None]]:
    """Yield the job of a request, and the key under which its conversation is found, if it has one.

    The block submits the job. Then the answer that the conversation waits for so far is canceled. If the job
    is refused, that answer goes on. Raises `InvalidInput`.
    """
    name = _text(request.headers.get(HEADER, ""))
    if not name:
        yield parsed.job, None
        return
    if len(name) > MAX_LENGTH:
        raise InvalidInput(HEADER, f"may have at most {MAX_LENGTH} characters")
    if parsed.request.continuous_usage:
        raise InvalidInput(
            "stream_options.continuous_usage_stats", f"is not supported together with {HEADER}"
        )
    conversation = Conversation(id=name, include_usage=parsed.request.include_usage)
    job = ConversationJob.model_construct(**dict(parsed.job), conversation=conversation)
    with backend.ledger.released_key(access.owner(), _key(name)) as earlier:
        yield job, IdempotencyKey(_key(name), new_job_id())  # each request is another one
    if earlier:
        with suppress(JobNotFound):
            cancel(backend, earlier)


def end(backend: Backend, name: str) -> None:
    """Cancel the answer of the caller's conversation, and forget which one it is."""
    owner = access.owner()
    if job_id := backend.ledger.job_for(owner, _key(name)):
        with suppress(JobNotFound):
            cancel(backend, job_id)
        backend.ledger.release_key(owner, _key(name))


def find(backend: Backend, name: str) -> tuple[Record, ConversationJob]:
    """Return the record and the job of the newest answer of the caller's conversation.

    Raises `JobNotFound`.
    """
    if job_id := backend.ledger.job_for(access.owner(), _key(name)):
        record = access.job(job_id)
        if job := read_job(record):
            return record, job
    raise JobNotFound(f"there is no stream of the conversation {name[:64]}")


def is_current(backend: Backend, record: Record, job: ConversationJob) -> bool:
    """Return whether the job makes the answer by which its conversation is found."""
    return backend.ledger.job_for(record.owner, _key(job.conversation.id)) == record.id


def read_job(record: Record) -> ConversationJob | None:
    """Return the job of a conversation's answer; None if the record is that of another job."""
    text = record.spec_json
    if '"conversation":' not in text or "conversation" not in json.loads(text):  # the first test is quick
        return None
    return read_spec(ConversationJob, record.spec_json)


def builder_of(record: Record, parsed: ParsedRequest) -> CompletionBuilder:
    """Return the builder of an answer. Whenever the answer is built, it has the same bytes."""
    return CompletionBuilder(record.id, record.model, record.created_at, parsed)


def bytes_behind(texts: Iterable[str], offset: int) -> Iterator[str]:
    """Yield the texts, which are ASCII, without their first `offset` bytes."""
    for text in texts:
        if offset < len(text):
            yield text[offset:]
        offset = max(offset - len(text), 0)


def without_silence(events: Iterable[LoggedEvent | None]) -> Iterator[LoggedEvent]:
    """Yield the events. Comments in a silence would change the number of bytes, so there are none."""
    return (event for event in events if event is not None)


def _text(header: str) -> str:
    """Return a header, which WSGI takes for Latin-1, as the UTF-8 that most clients send and URLs have."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _key(name: str) -> str:
    """Return the idempotency key of the conversation's current answer. No header can have a line break."""
    return f"conversation\n{name}"
