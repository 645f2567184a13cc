"""The JSON documents of a job's events, as streams, channels and logs carry them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from webapi.documents.jobs import Time
from worker.jobs.events import Reason

__all__ = ["EventDocument"]


class _Event(BaseModel):
    """`n` counts from 1 without gaps; `attempt` is 0 until the job's first start."""

    n: int
    job: str
    attempt: int
    time: Time


class QueuedEvent(_Event):
    """The job waits; `position` counts from 1. It comes again when the place changes."""

    type: Literal["queued"]
    position: int


class StartedEvent(_Event):
    """A worker has begun the job's next attempt."""

    type: Literal["started"]
    worker: str
    device: str


class TokenEvent(_Event):
    """New text of a chat: `count` tokens, the first of which is number `index` of the answer, from 0."""

    type: Literal["token"]
    text: str
    index: int
    count: int


class BatchEvent(_Event):
    """A batch of a video is done: `frames` real ones, `padded` filled in; `memory` in bytes."""

    type: Literal["batch"]
    index: int
    frames: int
    padded: int
    seconds: float
    memory: dict[str, Any]


class ProgressEvent(_Event):
    """How far the job is; null is not known."""

    type: Literal["progress"]
    done: int
    total: int | None
    unit: str


class RequeuedEvent(_Event):
    """The job waits again, and will go on where it stopped."""

    type: Literal["requeued"]
    reason: Reason


class SucceededEvent(_Event):
    """The job's good end."""

    type: Literal["succeeded"]
    result: dict[str, Any]
    usage: dict[str, Any]


class FailedEvent(_Event):
    """The job's bad end."""

    type: Literal["failed"]
    code: str
    message: str


class CanceledEvent(_Event):
    """The end that the client asked for."""

    type: Literal["canceled"]


class EventDocument(
    RootModel[
        Annotated[
            QueuedEvent
            | StartedEvent
            | TokenEvent
            | BatchEvent
            | ProgressEvent
            | RequeuedEvent
            | SucceededEvent
            | FailedEvent
            | CanceledEvent,
            Field(discriminator="type"),
        ]
    ]
):
    """One event: the `data:` of a Server-Sent Event, a message of the channel, an entry of the log."""
