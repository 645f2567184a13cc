"""What OpenAI's video clients get, and what they may list."""

from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.jobs.records import JobState, Record
from worker.jobs.specs import Requested, VideoJob

__all__ = ["Deleted", "Listing", "Video", "VideoList"]

Status = Literal["queued", "in_progress", "completed", "failed"]
STATUS: dict[JobState, Status] = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "canceled": "failed",
}


class VideoError(BaseModel):
    """Why there is no video."""

    code: str
    message: str


class Video(BaseModel):
    """A video job. `progress` is in per cent, times are seconds since the epoch."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str | None
    seconds: str
    size: str
    error: VideoError | None
    remixed_from_video_id: None = None

    @classmethod
    def of(cls, record: Record, retention_s: int) -> "Video":
        """From the ledger's record."""
        completed = int(record.finished_at or 0) if record.state == "succeeded" else None
        requested = _requested(record)
        return cls(
            id=f"video_{record.id}",
            model=str(record.spec.model),
            status=STATUS[record.state],
            progress=_progress(record),
            created_at=int(record.created_at),
            completed_at=completed,
            expires_at=None if completed is None else completed + retention_s,
            prompt=requested.prompt,
            seconds=requested.seconds,
            size=requested.size,
            error=_error(record),
        )


def _requested(record: Record) -> Requested:
    """What the client said; of a native job what its result tells, once there is one."""
    if isinstance(record.spec, VideoJob) and record.spec.requested:
        return record.spec.requested
    found: dict[str, Any] = record.result or {}
    if not found:
        return Requested(seconds="", size="")
    seconds = float(found["frames"] / Fraction(found["frame_rate"]))
    return Requested(seconds=f"{seconds:g}", size=f"{found['width']}x{found['height']}")


def _progress(record: Record) -> int:
    if record.state == "succeeded":
        return 100
    return min(100 * record.done // record.total, 99) if record.total else 0


def _error(record: Record) -> VideoError | None:
    if record.state == "canceled":
        return VideoError(code="canceled", message="the job was canceled")
    return None if record.error is None else VideoError.model_validate(record.error)


class Listing(BaseModel):
    """What to list: from the one behind `after` on."""

    model_config = ConfigDict(extra="ignore")

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


class VideoList(BaseModel):
    """A page."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, videos: list[Video], has_more: bool) -> "VideoList":
        """With the ids of its ends."""
        first, last = (videos[0].id, videos[-1].id) if videos else (None, None)
        return cls(data=videos, first_id=first, last_id=last, has_more=has_more)


class Deleted(BaseModel):
    """It is gone, and its files."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True
