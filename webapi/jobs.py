"""Jobs: the native routes to submit, look at, cancel and forget them."""

import logging
import uuid
from typing import Any, Literal
from urllib.parse import urlencode

from flask import Blueprint, request, send_file
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from webapi import access
from webapi.backend import backend
from webapi.documents import ChatResult, JobDocument, MemoryDocument
from webapi.preferences import idempotency, wait_for_end, wanted_wait_s
from webapi.submission import check_room, submit
from webapi.uploads import receive
from worker.jobs.errors import InvalidInput, JobConflict, JobNotFound, TooLarge
from worker.jobs.records import JobState, Record
from worker.jobs.specs import validate

__all__ = ["routes"]

logger = logging.getLogger(__name__)
routes = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

#: A conversation is text: far beyond any model's context already.
MAX_CHAT_BYTES = 16 * 2**20


@routes.post("/chat")
def submit_chat() -> ResponseReturnValue:
    """Submit a chat job."""
    spec = validate("chat", _json_body())
    return _accepted(submit(backend(), uuid.uuid4().hex, spec, idempotency(spec)))


@routes.post("/video")
def submit_video() -> ResponseReturnValue:
    """Submit a video job, with its clip."""
    stoker, job_id = backend(), uuid.uuid4().hex
    check_room(stoker, "video")  # before the upload
    files = stoker.files(job_id)
    with receive(request, files, stoker.settings) as fields:
        spec = validate("video", fields)
        accepted = submit(stoker, job_id, spec, idempotency(spec, files.clip, files.background))
    if accepted != job_id:
        files.remove()  # the job has its own
    return _accepted(accepted)


def _json_body() -> Any:
    request.max_content_length = MAX_CHAT_BYTES
    try:
        return request.get_json()
    except RequestEntityTooLarge:
        raise TooLarge("body", f"the body may have at most {MAX_CHAT_BYTES} bytes") from None
    except BadRequest:
        raise BadRequest("The body is not valid JSON.") from None
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.") from None


def _accepted(job_id: str) -> ResponseReturnValue:
    """The job as it stands, or as it ended if the client prefers to wait and that comes about."""
    headers = {"Location": f"/v1/jobs/{job_id}"}
    if wait_s := wanted_wait_s():
        wait_for_end(backend(), job_id, wait_s)
        headers["Preference-Applied"] = f"wait={wait_s}"
    record = backend().ledger.get(job_id)
    return _document(record), 200 if record.terminal else 202, headers


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
    found = backend().ledger.page(page.kind, page.state, page.limit + 1, page.after, access.owner())
    jobs, more = found[: page.limit], len(found) > page.limit
    query = page.model_dump(exclude_none=True) | {"after": jobs[-1].id if jobs else None}
    following = f"{request.path}?{urlencode(query)}" if more else None
    return {"jobs": [_document(record) for record in jobs], "links": {"next": following}}


@routes.get("/<job_id>/result")
def result(job_id: str) -> ResponseReturnValue:
    """What the job produced."""
    stoker, record = backend(), access.job(job_id)
    if record.state != "succeeded":
        raise JobConflict(_why_no_result(record))
    if record.kind == "chat":
        return ChatResult.of(record).model_dump()
    video = stoker.files(job_id).result
    if not video.is_file():
        raise JobNotFound("the result's file is gone")
    _ignore_odd_ranges(video.stat().st_size)
    return send_file(video, "video/mp4", download_name=f"{job_id}.mp4", conditional=True)


def _why_no_result(record: Record) -> str:
    if record.state == "failed":
        return f"the job failed: {record.error['message'] if record.error else 'no reason was given'}"
    return "the job was canceled" if record.terminal else f"the job is {record.state}; it has no result yet"


def _ignore_odd_ranges(size: int) -> None:
    """Werkzeug answers 416 to any Range that it does not serve; RFC 9110 (14.2) has all but one ignored.

    That one is a single range that begins behind the end.
    """
    wanted = request.range
    plain = wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1
    if wanted is None or not plain or -(wanted.ranges[0][0] or 0) > size:
        request.environ.pop("HTTP_RANGE", None)


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
