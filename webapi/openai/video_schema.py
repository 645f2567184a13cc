"""The documents of OpenAI's video routes."""

from contextlib import suppress
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.jobs.errors import Unsupported
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
    """The reason why a video failed."""

    code: str
    message: str


class Video(BaseModel):
    """A video job. `progress` is a percentage; times are in seconds since the epoch."""

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
    def from_record(cls, record: Record, retention_s: int) -> "Video":
        """Return the document of the job's record. A finished video expires after `retention_s` seconds."""
        completed = int(record.finished_at or 0) if record.state == "succeeded" else None
        requested = _requested(record)
        return cls(
            id=f"video_{record.id}",
            model=record.model,
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
    """Return the client's own prompt, seconds and size.

    A job of the native API, or one that only a newer version of Stoker can read, has none. Its seconds and
    size come from its result, and are empty until then.
    """
    with suppress(Unsupported):
        if isinstance(record.spec, VideoJob) and record.spec.requested:
            return record.spec.requested
    result: dict[str, Any] = record.result or {}
    seconds, size = result.get("duration_s"), ""
    if "frame_rate" in result:  # workers of earlier releases report no duration
        seconds = seconds or float(result["frames"] / Fraction(result["frame_rate"]))
    if "width" in result:
        size = f"{result['width']}x{result['height']}"
    return Requested(seconds=f"{seconds:g}" if seconds else "", size=size)


def _progress(record: Record) -> int:
    if record.state == "succeeded":
        return 100
    return min(100 * record.done // record.total, 99) if record.total else 0


def _error(record: Record) -> VideoError | None:
    if record.state == "canceled":
        return VideoError(code="canceled", message="the job was canceled")
    return None if record.error is None else VideoError.model_validate(record.error)


class Listing(BaseModel):
    """The query of a listing. The page starts with the video that follows `after`."""

    model_config = ConfigDict(extra="ignore")

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


class VideoList(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def from_videos(cls, videos: list[Video], has_more: bool) -> "VideoList":
        """Return the page of these videos. `has_more` tells that another page follows."""
        first, last = (videos[0].id, videos[-1].id) if videos else (None, None)
        return cls(data=videos, first_id=first, last_id=last, has_more=has_more)


class Deleted(BaseModel):
    """The confirmation that a video and its files were deleted."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True
