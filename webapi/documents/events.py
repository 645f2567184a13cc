"""The JSON documents of a job's events, as streams, pub/sub channels and logs carry them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from webapi.documents.jobs import Time
from worker.jobs.events import Reason

__all__ = ["EventDocument"]


class _Event(BaseModel):
    """The fields of every event. `n` counts from 1 without gaps. `attempt` is 0 until the first start."""

    n: int
    job: str
    attempt: int
    time: Time


class QueuedEvent(_Event):
    """The event of a job that waits in its queue. It is repeated when `position`, from 1, changes."""

    type: Literal["queued"]
    position: int


class StartedEvent(_Event):
    """The event of a start: a worker has begun the job's next attempt."""

    type: Literal["started"]
    worker: str
    device: str


class TokenEvent(_Event):
    """The event of new text in a chat: `count` tokens, the first of which is token `index`, from 0."""

    type: Literal["token"]
    text: str
    index: int
    count: int


class BatchEvent(_Event):
    """The event of a finished batch of a video.

    The batch had `frames` frames of the clip and `padded` frames of padding. `memory` is in bytes.
    """

    type: Literal["batch"]
    index: int
    frames: int
    padded: int
    seconds: float
    memory: dict[str, Any]


class ProgressEvent(_Event):
    """The event of progress: `done` of `total` units. A `total` of null is unknown."""

    type: Literal["progress"]
    done: int
    total: int | None
    unit: str


class RequeuedEvent(_Event):
    """The event of a job that waits again. Its next attempt continues where this one stopped."""

    type: Literal["requeued"]
    reason: Reason


class SucceededEvent(_Event):
    """The terminal event of a job that has succeeded."""

    type: Literal["succeeded"]
    result: dict[str, Any]
    usage: dict[str, Any]


class FailedEvent(_Event):
    """The terminal event of a job that has failed. `code` is stable, `message` is for people."""

    type: Literal["failed"]
    code: str
    message: str


class CanceledEvent(_Event):
    """The terminal event of a job that was canceled at the client's request."""

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
    """An event of a job: the `data:` of a Server-Sent Event, a channel's message or an entry of the log."""
