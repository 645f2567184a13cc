"""Jobs: the native routes to submit, look at, cancel and forget them."""

import logging
import uuid
from typing import Any, Literal
from urllib.parse import urlencode

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from webapi import access
from webapi.backend import backend
from webapi.bodies import json_body
from webapi.documents import ChatResult, JobDocument, MemoryDocument
from webapi.results import check_succeeded, video_file
from webapi.submission import submit
from webapi.uploads import receive
from worker.jobs.errors import InvalidInput
from worker.jobs.records import JobState, Record
from worker.jobs.specs import validate

__all__ = ["routes"]

logger = logging.getLogger(__name__)
routes = Blueprint("jobs", __name__, url_prefix="/v1/jobs")


@routes.post("/chat")
def submit_chat() -> ResponseReturnValue:
    """Submit a chat job."""
    job_id = uuid.uuid4().hex
    return _accepted(submit(backend(), job_id, validate("chat", json_body())))


@routes.post("/video")
def submit_video() -> ResponseReturnValue:
    """Submit a video job, with its clip."""
    stoker, job_id = backend(), uuid.uuid4().hex
    with receive(request, stoker.files(job_id), stoker.settings) as fields:
        accepted = submit(stoker, job_id, validate("video", fields))
    return _accepted(accepted)


def _accepted(job_id: str) -> ResponseReturnValue:
    job = _document(backend().ledger.get(job_id))
    return job, 202, {"Location": f"/v1/jobs/{job_id}"}


def _document(record: Record) -> dict[str, Any]:
    return JobDocument.of(record).model_dump()


@routes.get("/<job_id>")
def show(job_id: str) -> ResponseReturnValue:
    """The job."""
    return _document(access.job(job_id))


class Page(BaseModel):
    """What to list."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["chat", "video"] | None = None
    state: JobState | None = None
    limit: int = Field(20, ge=1, le=100)
    after: str | None = None


@routes.get("")
def list_jobs() -> ResponseReturnValue:
    """The jobs, newest first; `links.next` is the next page."""
    try:
        page = Page.model_validate(request.args.to_dict())
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(str(first["loc"][0]), first["msg"]) from None
    found = backend().ledger.page(page.kind, page.state, page.limit + 1, page.after)
    jobs, more = found[: page.limit], len(found) > page.limit
    query = page.model_dump(exclude_none=True) | {"after": jobs[-1].id if jobs else None}
    following = f"{request.path}?{urlencode(query)}" if more else None
    return {"jobs": [_document(record) for record in jobs], "links": {"next": following}}


@routes.get("/<job_id>/result")
def result(job_id: str) -> ResponseReturnValue:
    """What the job produced."""
    record = access.job(job_id)
    if record.kind == "video":
        return video_file(record)
    check_succeeded(record)
    return ChatResult.of(record).model_dump()


@routes.get("/<job_id>/memory")
def memory(job_id: str) -> ResponseReturnValue:
    """The job's memory, batch by batch."""
    access.job(job_id)
    return MemoryDocument.of(job_id, list(backend().ledger.events(job_id))).model_dump()


@routes.post("/<job_id>/cancel")
def cancel(job_id: str) -> ResponseReturnValue:
    """Ask for the job's end: at once if it waits, with its next step if it runs."""
    access.job(job_id)
    ledger = backend().ledger
    state = ledger.cancel(job_id)
    logger.info("job %s: cancel, now %s", job_id, state)
    return _document(ledger.get(job_id)), 202 if state == "running" else 200


@routes.delete("/<job_id>")
def forget(job_id: str) -> ResponseReturnValue:
    """Forget a job that has ended, and its files."""
    access.job(job_id)
    stoker = backend()
    stoker.ledger.forget(job_id)
    stoker.files(job_id).remove()
    logger.info("job %s: forgotten", job_id)
    return "", 204
