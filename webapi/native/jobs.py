"""The native routes that submit, show, list, cancel and delete jobs."""

import logging
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field

from webapi.auth import access
from webapi.documents.jobs import ChatResultDocument, JobDocument, JobPageDocument, PageLinksDocument
from webapi.documents.memory import MemoryDocument
from webapi.documents.memory_plot import memory_plot
from webapi.http.bodies import json_body, query
from webapi.http.video_response import check_succeeded, video_file
from webapi.services.backend import current_backend
from webapi.submission.clips import submit_clip
from webapi.submission.request_preferences import preferred_wait_s, read_idempotency_key, wait_for_end
from webapi.submission.submit import cancel as cancel_job
from webapi.submission.submit import submit
from worker.jobs.errors import TooManyStreams
from worker.jobs.ids import new_job_id
from worker.jobs.records import JobState, Record
from worker.jobs.specs import validate

__all__ = ["Page", "routes"]

logger = logging.getLogger(__name__)
routes = Blueprint("jobs", __name__, url_prefix="/v1/jobs")


@routes.post("/chat")
def submit_chat() -> ResponseReturnValue:
    """Submit a chat job."""
    spec = validate("chat", json_body())
    return _accepted(submit(current_backend(), new_job_id(), spec, read_idempotency_key(spec)))


@routes.post("/video")
def submit_video() -> ResponseReturnValue:
    """Submit a video job, with its clip as a file."""
    return _accepted(submit_clip(current_backend(), lambda upload: validate("video", upload.fields)))


def _accepted(job_id: str) -> ResponseReturnValue:
    """Return the response to a submit: the job's document, its status and its headers.

    A client that prefers to wait gets the job when it has ended, or as it stands when the wait is over. The
    status is 200 for an ended job if the client waits or sends an idempotency key, and 202 otherwise.
    """
    headers = {"Location": f"/v1/jobs/{job_id}"}
    repeatable = "Idempotency-Key" in request.headers
    if wait_s := preferred_wait_s():
        with suppress(TooManyStreams):  # a wait is only a preference
            current_backend().streams.count(access.owner())
            wait_for_end(current_backend(), job_id, wait_s)
            headers["Preference-Applied"] = f"wait={wait_s}"
    record = current_backend().ledger.get(job_id)
    return _document(record), 200 if record.terminal and (wait_s or repeatable) else 202, headers


def _document(record: Record) -> dict[str, Any]:
    return JobDocument.from_record(record).model_dump()


@routes.get("/<string(length=32):job_id>")  # with the length, it never matches /chat or /video
def show(job_id: str) -> ResponseReturnValue:
    """Show a job."""
    return _document(access.job(job_id))


class Page(BaseModel):
    """The query of the list of jobs."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["chat", "video"] | None = None
    state: JobState | None = None
    limit: int = Field(20, ge=1, le=100)
    after: str | None = None


@routes.get("")
def list_jobs() -> ResponseReturnValue:
    """List the jobs, newest first.

    `links.next` is the URL of the next page, or null on the last page.
    """
    page = query(Page)
    found = current_backend().ledger.page(page.kind, page.state, page.limit + 1, page.after, access.owner())
    jobs, more = found[: page.limit], len(found) > page.limit
    onward = page.model_dump(exclude_none=True) | {"after": jobs[-1].id if jobs else None}
    following = f"{request.path}?{urlencode(onward)}" if more else None
    documents = [JobDocument.from_record(record) for record in jobs]
    return JobPageDocument(jobs=documents, links=PageLinksDocument(next=following)).model_dump()


@routes.get("/<job_id>/result")
def result(job_id: str) -> ResponseReturnValue:
    """Return the result of a job: the answer of a chat, or the finished video."""
    record = access.job(job_id)
    if record.kind == "video":
        return video_file(record)
    check_succeeded(record)
    return ChatResultDocument.from_record(record).model_dump()


@routes.get("/<job_id>/memory")
def memory(job_id: str) -> ResponseReturnValue:
    """Report the memory that a video job used, batch by batch."""
    return _memory_of(job_id).model_dump()


@routes.get("/<job_id>/memory.svg")
def memory_picture(job_id: str) -> ResponseReturnValue:
    """Draw the time and memory of the job's batches as SVG."""
    return Response(memory_plot(_memory_of(job_id)), mimetype="image/svg+xml")


def _memory_of(job_id: str) -> MemoryDocument:
    access.job(job_id)
    return MemoryDocument.from_events(job_id, list(current_backend().ledger.events(job_id)))


@routes.post("/<job_id>/cancel")
def cancel(job_id: str) -> ResponseReturnValue:
    """Cancel a job. A waiting job ends at once, a running one at its next step.

    The result of a job that had succeeded before is null for a key without the scope `read`.
    """
    access.job(job_id)
    state = cancel_job(current_backend(), job_id)
    document = _document(current_backend().ledger.get(job_id))
    if not access.may("read"):
        document["result"] = None
    return document, 202 if state == "running" else 200


@routes.delete("/<string(length=32):job_id>")
def forget(job_id: str) -> ResponseReturnValue:
    """Delete an ended job and its files."""
    access.job(job_id)
    current_backend().forget(job_id)
    logger.info("job %s: forgotten", job_id)
    return "", 204
