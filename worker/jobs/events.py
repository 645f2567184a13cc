"""The event types: everything that a worker can tell a client about a job."""

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

#: The types of terminal events. The log of every ended job has exactly one of them, as its last event.
TERMINAL = frozenset({"succeeded", "failed", "canceled"})

#: Why a job goes back to its queue. The ledger logs it in the event `requeued`.
Reason = Literal["worker_lost", "engine_lost", "redis_lost", "drain"]


@dataclass(frozen=True, slots=True)
class Event:
    """The base class of a worker's events. The ledger logs `queued`, `started` and `requeued` itself."""

    type: ClassVar[str]

    def fields(self) -> bytes:
        """Return the event's own fields as a JSON object. The ledger adds n, type, job, attempt and time."""
        public = self._public()
        try:
            return to_json(public)  # takes a tenth of the time of `json`
        except PydanticSerializationError:  # lone surrogates, which UTF-8 cannot encode
            return json.dumps(public, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def resume(self) -> str:
        """Return data for the job's next attempt. It is kept in the log and never published."""
        return ""

    def _public(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Token(Event):
    """New text of a chat, from `count` tokens; the first one has the number `index` (from 0) in the answer.

    `ids` are the token ids. The text can lag behind them: half a character and the start of a stop string are
    held back until they are decided.
    """

    type: ClassVar[str] = "token"
    text: str
    index: int
    ids: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of tokens."""
        return len(self.ids)

    def resume(self) -> str:
        """Return the token ids, separated by spaces."""
        return " ".join(map(str, self.ids))

    def _public(self) -> dict[str, Any]:
        return {"text": self.text, "index": self.index, "count": self.count}


@dataclass(frozen=True, slots=True)
class Batch(Event):
    """A finished batch of a video: `frames` real frames and `padded` filled-in ones. `memory` is in bytes."""

    type: ClassVar[str] = "batch"
    index: int
    frames: int
    padded: int
    seconds: float
    memory: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """The progress of a job: `done` of `total` (None: unknown) units. `unit` names the unit."""

    type: ClassVar[str] = "progress"
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Succeeded(Event):
    """The terminal event of a job that has a result."""

    type: ClassVar[str] = "succeeded"
    result: dict[str, Any]
    usage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The terminal event of a failed job: one of the codes in `errors`, and one sentence."""

    type: ClassVar[str] = "failed"
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Canceled(Event):
    """The terminal event of a job that its client canceled."""

    type: ClassVar[str] = "canceled"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of a job's log: numbered 1, 2, 3 … and serialised."""

    n: int
    type: str
    #: The event as JSON.
    text: str = field(repr=False)
    #: The same, parsed: all fields of the event.
    data: dict[str, Any] = field(repr=False, compare=False)
    #: The reply of `Event.resume`; empty if the event was received over the channel.
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
