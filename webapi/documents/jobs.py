"""The JSON documents of jobs, results, stream tokens, queues, workers and health."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from worker.jobs.cards import WorkerCard
from worker.jobs.events import Time
from worker.jobs.records import JobState, QueueInfo, Record, rfc3339

__all__ = [
    "HealthDocument",
    "JobDocument",
    "JobPageDocument",
    "PageLinksDocument",
    "QueueDocument",
    "QueuesDocument",
    "TokenDocument",
    "VersionDocument",
    "WorkerDocument",
    "WorkersDocument",
]

_RESULT = (
    "Of a chat: `text` and `finish_reason`, and if there are any `reasoning`, `tool_calls` and several "
    "`choices`. Of a video: `frames`, `concealed` (frames of the clip that were damaged or lost), `width`, "
    "`height`, `frame_rate`, `duration_s`, `bytes`, `content_type`, and what happened to each stream in "
    "`audio` and `subtitles`. Records have the type `application/x-ndjson`, and nothing of sound and "
    "subtitles."
)


class ProgressDocument(BaseModel):
    """The progress of a job: `done` of `total` units. A `total` of null is unknown."""

    model_config = ConfigDict(title="Progress")

    done: int
    total: int | None
    unit: str


class JobErrorDocument(BaseModel):
    """The reason why a job failed. `code` is stable, `message` is for people."""

    model_config = ConfigDict(title="JobError")

    code: str
    message: str


class LinksDocument(BaseModel):
    """The URLs of a job, its events and its result, and the URL that cancels it."""

    model_config = ConfigDict(title="Links")

    self: str
    events: str
    result: str
    cancel: str


class JobDocument(BaseModel):
    """A job as clients see it."""

    id: str
    kind: str
    model: str
    #: As the client gave them, without the messages, the files and the webhook's URL.
    parameters: dict[str, Any]
    state: JobState
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    queue_position: int | None
    #: Estimate from the measured rate. None unless the job is queued, and until a rate was measured.
    estimated_start: Time | None
    attempt: int
    worker: str | None
    device: str | None
    progress: ProgressDocument
    #: Of a chat: counts of tokens. Of a video: `frames`, `batches`, `padded_frames`, `seconds`, and the
    #: `decoder` of the clip, which is `libav` or `nvdec`.
    usage: dict[str, Any] | None
    result: dict[str, Any] | None = Field(description=_RESULT)
    error: JobErrorDocument | None
    #: The id of the job that this one repeats.
    retry_of: str | None
    links: LinksDocument

    @classmethod
    def from_record(cls, record: Record, prefix: str = "") -> "JobDocument":
        """Return the document of the ledger's record. The paths of its links begin with `prefix`."""
        url = f"{prefix}/v1/jobs/{record.id}"
        return cls(
            id=record.id,
            kind=record.kind,
            model=record.model,
            parameters=record.parameters,
            state=record.state,
            created_at=rfc3339(record.created_at),
            started_at=_time(record.started_at),
            finished_at=_time(record.finished_at),
            queue_position=record.position,
            estimated_start=_time(record.estimated_start),
            attempt=record.attempt,
            worker=record.worker,
            device=record.device,
            progress=ProgressDocument(done=record.done, total=record.total, unit=record.unit),
            usage=record.usage,
            result=record.result,
            error=None if record.error is None else JobErrorDocument.model_validate(record.error),
            retry_of=record.retry_of,
            links=LinksDocument(
                self=url, events=f"{url}/events", result=f"{url}/result", cancel=f"{url}/cancel"
            ),
        )


def _time(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else rfc3339(epoch_s)


class PageLinksDocument(BaseModel):
    """The URL of the next page, or null on the last page."""

    model_config = ConfigDict(title="PageLinks")

    next: str | None


class JobPageDocument(BaseModel):
    """A page of jobs, newest first."""

    model_config = ConfigDict(title="JobPage")

    jobs: list[JobDocument]
    links: PageLinksDocument


class TokenDocument(BaseModel):
    """A stream token, and the URLs of the job's events and result that contain it."""

    token: str
    expires_at: Time
    events: str
    result: str

    @classmethod
    def for_job(cls, job_path: str, token: str, expires_at: float) -> "TokenDocument":
        """Return the document of this job's token. `expires_at` is in seconds since the epoch."""
        events, result = (f"{job_path}/{part}?token={token}" for part in ("events", "result"))
        return cls(token=token, expires_at=rfc3339(expires_at), events=events, result=result)


class QueuesDocument(BaseModel):
    """The list of all queues."""

    queues: list[QueueInfo]


class QueueDocument(RootModel[QueueInfo]):
    """A queue."""


class WorkerDocument(RootModel[WorkerCard]):
    """A worker that is alive."""


class WorkersDocument(BaseModel):
    """The list of the workers that are alive."""

    workers: list[WorkerCard]


class HealthDocument(BaseModel):
    """The response of a successful probe. A probe that fails answers with a problem document."""

    model_config = ConfigDict(title="Health")

    status: Literal["alive", "ready"]


class VersionDocument(BaseModel):
    """The version of Stoker that answers."""

    model_config = ConfigDict(title="Version")

    version: str
