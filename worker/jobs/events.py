"""The event types: the whole vocabulary between workers and clients."""

import json
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Self

from pydantic_core import PydanticSerializationError, to_json

__all__ = [
    "TERMINAL",
    "Batch",
    "Canceled",
    "Event",
    "Failed",
    "LoggedEvent",
    "Progress",
    "Reason",
    "Succeeded",
    "Token",
]

#: The types that end a job; every job's log ends in exactly one of them.
TERMINAL = frozenset({"succeeded", "failed", "canceled"})

#: Why a job goes back to its queue.
Reason = Literal["worker_lost", "engine_lost", "redis_lost", "drain"]


@dataclass(frozen=True, slots=True)
class Event:
    """Root of what a worker appends; the ledger itself adds `queued`, `started` and `requeued`."""

    type: ClassVar[str]

    def fields(self) -> bytes:
        """This event's own fields as a JSON object; the ledger adds n, type, job, attempt and time."""
        public = self._public()
        try:
            return to_json(public)  # in a tenth of the time that `json` takes
        except PydanticSerializationError:  # lone surrogates, which would not go over the wire
            return json.dumps(public, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def resume(self) -> str:
        """What the job's next attempt needs beyond `fields`; kept in the log, never sent to clients."""
        return ""

    def _public(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Token(Event):
    """New text of a chat: `count` tokens of which the first is number `index` (from 0) of the answer.

    `ids` are those tokens; text may lag behind them (half a character, the beginning of a stop string).
    """

    type: ClassVar[str] = "token"
    text: str
    index: int
    ids: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many tokens they are."""
        return len(self.ids)

    def resume(self) -> str:
        """The token ids."""
        return " ".join(map(str, self.ids))

    def _public(self) -> dict[str, Any]:
        return {"text": self.text, "index": self.index, "count": self.count}


@dataclass(frozen=True, slots=True)
class Batch(Event):
    """One batch of a video is done: `frames` real ones, `padded` filled in; `memory` in bytes."""

    type: ClassVar[str] = "batch"
    index: int
    frames: int
    padded: int
    seconds: float
    memory: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """How far the job is: `done` of `total` (None: unknown) `unit`s."""

    type: ClassVar[str] = "progress"
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Succeeded(Event):
    """The job's good end."""

    type: ClassVar[str] = "succeeded"
    result: dict[str, Any]
    usage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The job's bad end: `code` is one of the codes in `errors`, `message` one sentence."""

    type: ClassVar[str] = "failed"
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Canceled(Event):
    """The end that the client asked for."""

    type: ClassVar[str] = "canceled"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as it stands in a job's log: numbered 1, 2, 3 … and serialised."""

    n: int
    type: str
    text: str = field(repr=False)
    #: All fields.
    data: dict[str, Any] = field(repr=False, compare=False)
    #: `Event.resume` of it; empty when it came over the channel.
    resume: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, resume: str = "") -> Self:
        """From the JSON that the log and the channel carry."""
        data = json.loads(text)
        return cls(int(data["n"]), str(data["type"]), text, data, resume)

    @property
    def terminal(self) -> bool:
        """Whether this event ends the job."""
        return self.type in TERMINAL
