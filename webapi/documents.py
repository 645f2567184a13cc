"""The JSON documents that the API answers with."""

import time
from typing import Any, Literal

from pydantic import BaseModel

from worker.jobs.events import LoggedEvent
from worker.jobs.ledger import rfc3339
from worker.jobs.records import JobState, Record

__all__ = ["ChatResult", "JobDocument", "MemoryDocument", "TokenDocument"]


class Progress(BaseModel):
    """How far a job is."""

    done: int
    total: int | None
    unit: str


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class Links(BaseModel):
    """Where to go on from a job."""

    self: str
    events: str
    result: str
    cancel: str


class JobDocument(BaseModel):
    """A job, as clients see it."""

    id: str
    kind: str
    state: JobState
    created_at: str
    started_at: str | None
    finished_at: str | None
    queue_position: int | None
    #: From the measured rate; None unless queued, or if nothing was measured yet.
    estimated_start: str | None
    attempt: int
    worker: str | None
    device: str | None
    progress: Progress
    usage: dict[str, Any] | None
    result: dict[str, Any] | None
    error: JobError | None
    links: Links

    @classmethod
    def of(cls, record: Record) -> "JobDocument":
        """From the ledger's record."""
        url = f"/v1/jobs/{record.id}"
        return cls(
            id=record.id,
            kind=record.kind,
            state=record.state,
            created_at=rfc3339(record.created_at),
            started_at=_time(record.started_at),
            finished_at=_time(record.finished_at),
            queue_position=record.position,
            estimated_start=_time(_in(record.estimated_wait_s)),
            attempt=record.attempt,
            worker=record.worker,
            device=record.device,
            progress=Progress(done=record.done, total=record.total, unit=record.unit),
            usage=record.usage,
            result=record.result,
            error=None if record.error is None else JobError.model_validate(record.error),
            links=Links(self=url, events=f"{url}/events", result=f"{url}/result", cancel=f"{url}/cancel"),
        )


def _in(seconds: float | None) -> float | None:
    return None if seconds is None else time.time() + seconds


def _time(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else rfc3339(epoch_s)


class AssistantMessage(BaseModel):
    """The answer, ready to be appended to the conversation."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatResult(BaseModel):
    """What a chat job produced."""

    id: str
    message: AssistantMessage
    text: str
    finish_reason: str | None
    usage: dict[str, Any] | None

    @classmethod
    def of(cls, record: Record) -> "ChatResult":
        """From the record of a chat that succeeded."""
        result = record.result or {}
        text = result.get("text", "")
        return cls(
            id=record.id,
            message=AssistantMessage(content=text),
            text=text,
            finish_reason=result.get("finish_reason"),
            usage=record.usage,
        )


class MemorySample(BaseModel):
    """Bytes at one moment."""

    allocated: int
    reserved: int


class BatchMemory(BaseModel):
    """One batch: `frames` real ones, `padded` filled in, `size` both; memory in bytes.

    `first` and `last` are those of the attempt; `grew` says that a later batch than the first reserved
    more memory, which a warm worker should not need.
    """

    attempt: int
    index: int
    frames: int
    padded: int
    size: int
    seconds: float
    source: str
    before: MemorySample
    after: MemorySample
    peak_allocated: int
    peak_reserved: int
    first: bool
    last: bool
    grew: bool


class MemoryDocument(BaseModel):
    """The memory report of a job, batch by batch; a chat has no batches."""

    id: str
    batches: list[BatchMemory]

    @classmethod
    def of(cls, job_id: str, events: list[LoggedEvent]) -> "MemoryDocument":
        """From the job's events."""
        seen = [event.data for event in events if event.type == "batch"]
        attempts = [None, *(data["attempt"] for data in seen), None]
        batches = []
        for i, data in enumerate(seen, 1):
            memory, first = data["memory"], attempts[i - 1] != attempts[i]
            grew = not first and memory["after"]["reserved"] > memory["before"]["reserved"]
            marks = {"first": first, "last": attempts[i + 1] != attempts[i], "grew": grew}
            size = {"size": data["frames"] + data["padded"]}
            batches.append(BatchMemory.model_validate(data | memory | size | marks))
        return cls(id=job_id, batches=batches)


class TokenDocument(BaseModel):
    """A stream token, and the URLs to use it with."""

    token: str
    expires_at: str
    events: str
    result: str

    @classmethod
    def of(cls, job_id: str, token: str, expires_at: float) -> "TokenDocument":
        """For this job."""
        url = f"/v1/jobs/{job_id}"
        events, result = (f"{url}/{part}?token={token}" for part in ("events", "result"))
        return cls(token=token, expires_at=rfc3339(expires_at), events=events, result=result)
