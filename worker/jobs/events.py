"""The event types: everything that a worker or the ledger can tell a client about a job."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, partial
from operator import is_
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticSerializationError

from worker.jobs.chat.logprobs import TokenLogprob

__all__ = [
    "ANSWER",
    "EVENTS",
    "TERMINAL",
    "AnswerEvent",
    "Batch",
    "Canceled",
    "Envelope",
    "Event",
    "Failed",
    "LoggedEvent",
    "Progress",
    "Queued",
    "Reason",
    "Reasoning",
    "Requeued",
    "Started",
    "Succeeded",
    "Time",
    "Token",
    "ToolCall",
    "own_fields",
    "parse_event",
]

#: A time as in RFC 3339, in UTC.
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]

#: Why a job goes back to its queue. The ledger logs it in the event `requeued`.
Reason = Literal["worker_lost", "engine_lost", "redis_lost", "drain"]


#: Whether an optional field is left out of the JSON. A lambda would take twice as long.
_is_none = partial(is_, None)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields that the ledger adds to every event, beside its `type`.

    `n` counts from 1 without gaps. `attempt` is 0 until the first start.
    """

    n: int
    job: str
    attempt: int
    time: Time


@dataclass(frozen=True, slots=True)  # not a pydantic model, because one is made for each token
class Event:
    """The base class of all events."""

    type: ClassVar[str]
    #: Whether the event ends the job. The log of every ended job has exactly one such event, as its last one.
    terminal: ClassVar[bool] = False

    @property
    def resume(self) -> str:
        """Data for the job's next attempt. The ledger keeps it in the log and never publishes it."""
        return ""

    def fields(self) -> bytes:
        """Return the event's own fields, without `resume`, as a JSON object."""
        try:
            return _to_json(type(self))(self)  # type: ignore[arg-type]  # mypy takes the class for an instance
        except PydanticSerializationError:  # lone surrogates, which UTF-8 cannot encode
            public = TypeAdapter(type(self)).dump_python(self)
            return json.dumps(public, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


@cache
def _to_json(event: type[Event]) -> Callable[[Event], bytes]:
    """Return the serializer of a class. It takes a tenth of the time of `json`."""
    return TypeAdapter(event).serializer.to_json


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """The event of a job that waits in its queue. It is repeated when `position`, from 1, changes."""

    type: ClassVar[str] = "queued"
    position: int


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The event of a start: a worker has begun the job's next attempt."""

    type: ClassVar[str] = "started"
    worker: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEvent(Event):
    """The base class of the events that together are the answer of a chat.

    If the chat has several choices, the event is one of choice `choice`, from 0. `token_ids` are the ids of
    its tokens, and `prompt_token_ids`, in the first event, those of the prompt, if the job asks for them.
    """

    choice: Annotated[int | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None
    token_ids: Annotated[list[int] | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None
    prompt_token_ids: Annotated[list[int] | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None


@dataclass(frozen=True, slots=True)
class Token(AnswerEvent):
    """The event of new text in a chat: `count` tokens, the first of which is token `index`, from 0.

    `index` counts the tokens of the event's choice. If the chat has several choices or asks for token ids,
    the last event of each choice has the `finish_reason`, and its text may be empty.
    """

    type: ClassVar[str] = "token"
    text: str
    index: int
    count: int
    #: The token ids, separated by spaces. The text can lag behind them: half a character and the start of a
    #: stop string are held back until they are decided.
    resume: Annotated[str, Field(exclude=True)] = ""
    #: The log-probabilities of the tokens, if the job asks for them.
    logprobs: Annotated[list[TokenLogprob] | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None
    finish_reason: Annotated[str | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None


@dataclass(frozen=True, slots=True)
class Reasoning(AnswerEvent):
    """The event of new text of a model's reasoning, which comes before its answer.

    `index` and `count` are those of a token event. The text is empty if the job hides it.
    """

    type: ClassVar[str] = "reasoning"
    text: str
    index: int
    count: int
    resume: Annotated[str, Field(exclude=True)] = ""


@dataclass(frozen=True, slots=True)
class ToolCall(AnswerEvent):
    """The event of a call of a tool, or of a part of it: call `index` of the choice, from 0.

    The first event of a call has its `id` and the `name` of the tool. `arguments` is a part of their JSON
    text: those of all events of the call make it up. `count` tokens produced it.
    """

    type: ClassVar[str] = "tool_call"
    index: int
    arguments: str
    count: int
    id: Annotated[str | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None
    name: Annotated[str | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None
    resume: Annotated[str, Field(exclude=True)] = ""


@dataclass(frozen=True, slots=True)
class Batch(Event):
    """The event of a finished batch of a video.

    The batch had `frames` frames of the clip and `padded` frames of padding. `memory` is in bytes. `records`
    are the lines that the batch adds to a result of records. The event omits them if they are not small.
    `worker` has run the batch on `device`. Events of older versions do not have these two.
    """

    type: ClassVar[str] = "batch"
    index: int
    frames: int
    padded: int
    seconds: float
    memory: dict[str, Any]
    records: Annotated[list[dict[str, Any]] | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None
    worker: Annotated[str | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None
    device: Annotated[str | SkipJsonSchema[None], Field(exclude_if=_is_none)] = None


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """The event of progress: `done` of `total` units. A `total` of null is unknown."""

    type: ClassVar[str] = "progress"
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Requeued(Event):
    """The event of a job that waits again. Its next attempt continues where this one stopped."""

    type: ClassVar[str] = "requeued"
    reason: Reason


@dataclass(frozen=True, slots=True)
class Succeeded(Event):
    """The terminal event of a job that has succeeded."""

    type: ClassVar[str] = "succeeded"
    terminal: ClassVar[bool] = True
    result: dict[str, Any]
    usage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The terminal event of a job that has failed. `code` is stable, `message` is for people."""

    type: ClassVar[str] = "failed"
    terminal: ClassVar[bool] = True
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Canceled(Event):
    """The terminal event of a job that was canceled at the client's request."""

    type: ClassVar[str] = "canceled"
    terminal: ClassVar[bool] = True


#: All events by their types.
EVENTS: Mapping[str, type[Event]] = {
    each.type: each
    for each in (
        Queued,
        Started,
        Token,
        Reasoning,
        ToolCall,
        Batch,
        Progress,
        Requeued,
        Succeeded,
        Failed,
        Canceled,
    )
}

#: The types of terminal events.
TERMINAL = frozenset(name for name, each in EVENTS.items() if each.terminal)

#: The types of the events that together are the answer of a chat.
ANSWER = frozenset(name for name, each in EVENTS.items() if issubclass(each, AnswerEvent))


def own_fields(event: type[Event]) -> Mapping[str, Any]:
    """Return the types of the event's own fields by their names: those of its JSON, without the envelope."""
    return {each.name: each.type for each in fields(event) if each.name != "resume"}


def parse_event(data: Mapping[str, Any]) -> Event | None:
    """Return the event in a JSON object, or None if this version of Stoker does not know its type or form.

    A newer version may have written the event, so fields that this version does not know are left out.
    """
    event = EVENTS.get(data["type"])
    if event is None:
        return None
    known = {name: data[name] for name in own_fields(event) if name in data}
    try:
        return event(**known)
    except TypeError:  # a field is missing
        return None


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of a job's log: numbered 1, 2, 3 … and serialised."""

    n: int
    type: str
    #: The event as JSON.
    text: str = field(repr=False)
    #: The same, parsed: all fields of the event and of its envelope.
    data: dict[str, Any] = field(repr=False, compare=False)
    #: The event's `resume`; empty if the event was received over the channel.
    resume: str = field(default="", repr=False)

    @classmethod
    def from_json(cls, text: str, resume: str = "") -> Self:
        """Return the event of this JSON, as the log and the channel carry it."""
        data = json.loads(text)
        return cls(int(data["n"]), str(data["type"]), text, data, resume)

    @property
    def terminal(self) -> bool:
        """True if this is a terminal event."""
        return self.type in TERMINAL
