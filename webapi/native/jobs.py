"""The native routes that submit, show, list, cancel and delete jobs."""

import logging
from typing import Annotated, Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from webapi.auth import access
from webapi.description.parts import SVG, TEXT, header, parameter
from webapi.description.route import AnswerSpec, Body, describe
from webapi.documents.chat import ChatResultDocument
from webapi.documents.jobs import JobDocument, JobPageDocument, PageLinksDocument
from webapi.documents.memory import MemoryDocument
from webapi.documents.memory_plot import memory_plot
from webapi.http.bodies import json_body, query
from webapi.http.result_file import FILE_ANSWERS, FILES
from webapi.kinds.table import find_api_kind
from webapi.native.job_path import JobPart
from webapi.native.submit_response import SUBMIT_ERRORS, SUBMITTED, submit_response
from webapi.services.backend import current_backend
from webapi.submission.clip_form import ClipForm
from webapi.submission.clips import submit_clip
from webapi.submission.neutral_fields import without_neutral
from webapi.submission.request_preferences import PREFERENCES, read_idempotency_key
from webapi.submission.retry import retry as retry_job
from webapi.submission.submit import cancel as cancel_job
from webapi.submission.submit import submit
from worker.jobs.ids import new_job_id
from worker.jobs.kinds import KINDS
from worker.jobs.logs.facts import facts
from worker.jobs.records import JobState, Record
from worker.jobs.specs import ChatJob, VideoJob, validate

__all__ = ["Page", "routes"]

logger = logging.getLogger(__name__)
routes = Blueprint("jobs", __name__, url_prefix="/v1/jobs")
routes.record(lambda state: state.app.url_map.converters.update(job=JobPart))

VIDEO_FORM = ClipForm("file")


@routes.post("/chat")
@describe("submit", SUBMITTED, SUBMIT_ERRORS, Body(ChatJob), parameters=PREFERENCES, submits=ChatJob.kind)
def submit_chat() -> ResponseReturnValue:
    """Submit a chat job."""
    body = json_body()
    spec = validate(ChatJob, without_neutral(body) if isinstance(body, dict) else body)
    return submit_response(submit(current_backend(), new_job_id(), spec, read_idempotency_key(spec)))


@routes.post("/video")
@describe(
    "submit",
    SUBMITTED,
    (*SUBMIT_ERRORS, 507),
    Body(form=VIDEO_FORM.schema, example="VideoForm"),
    parameters=PREFERENCES,
    submits=VideoJob.kind,
)
def submit_video() -> ResponseReturnValue:
    """Submit a video job, with its clip as a file."""
    return submit_response(submit_clip(current_backend(), VIDEO_FORM))


def _document(record: Record) -> dict[str, Any]:
    return JobDocument.from_record(record, request.script_root).model_dump()


@routes.get("/<job:job_id>")
@describe("read", {200: AnswerSpec("The job.", JobDocument)}, (404,))
def show(job_id: str) -> ResponseReturnValue:
    """Show a job."""
    return _document(access.job(job_id))


def _known_kind(name: str) -> str:
    if name not in KINDS:
        raise PydanticCustomError("kind", "must be one of {known}", {"known": ", ".join(KINDS)})
    return name


KindName = Annotated[str, AfterValidator(_known_kind), Field(json_schema_extra={"enum": [*KINDS]})]


class Page(BaseModel):
    """The query of the list of jobs."""

    model_config = ConfigDict(extra="forbid")

    kind: KindName | None = None
    state: JobState | None = None
    limit: int = Field(20, ge=1, le=100)
    after: str | None = None


@routes.get("")
@describe("read", {200: AnswerSpec("A page of jobs.", JobPageDocument)}, (422,), query=Page)
def list_jobs() -> ResponseReturnValue:
    """List the jobs, newest first.

    `links.next` is the URL of the next page, or null on the last page.
    """
    page = query(Page)
    found = current_backend().ledger.page(page.kind, page.state, page.limit + 1, page.after, access.owner())
    jobs, more = found[: page.limit], len(found) > page.limit
    onward = page.model_dump(exclude_none=True) | {"after": jobs[-1].id if jobs else None}
    prefix = request.script_root
    following = f"{prefix}{request.path}?{urlencode(onward)}" if more else None
    documents = [JobDocument.from_record(record, prefix) for record in jobs]
    return JobPageDocument(jobs=documents, links=PageLinksDocument(next=following)).model_dump()


@routes.get("/<job_id>/result")
@describe(
    "read",
    FILE_ANSWERS
    | {
        200: AnswerSpec(
            "The text of a chat, the video, or the records of a model that finds facts.",
            ChatResultDocument,
            {"Accept-Ranges": header("For a file: the route supports byte ranges.", required=False)},
            FILES,
        )
    },
    (404, 409, 416),
    parameters=(parameter("Range", "The range of bytes of a file: `bytes=0-1023`."),),
    reads=True,
)
def result(job_id: str) -> ResponseReturnValue:
    """Return the result of a job: the answer of a chat, or the file of a video job."""
    record = access.job(job_id)
    return find_api_kind(record).result(record)


@routes.get("/<job_id>/memory")
@describe("read", {200: AnswerSpec("The report.", MemoryDocument)}, (404,))
def memory(job_id: str) -> ResponseReturnValue:
    """Report the memory that a video job used, batch by batch."""
    return _memory_of(job_id).model_dump()


@routes.get("/<job_id>/memory.svg")
@describe("read", {200: AnswerSpec("The report as a drawing.", content={SVG: TEXT})}, (404,))
def memory_picture(job_id: str) -> ResponseReturnValue:
    """Draw the time and memory of the job's batches as SVG."""
    return Response(memory_plot(_memory_of(job_id)), mimetype="image/svg+xml")


def _memory_of(job_id: str) -> MemoryDocument:
    access.job(job_id)
    return MemoryDocument.from_events(job_id, list(current_backend().ledger.events(job_id)))


@routes.post("/<job_id>/cancel")
@describe(
    "submit",
    {
        200: AnswerSpec("The job is canceled, or it had ended before.", JobDocument),
        202: AnswerSpec("The job is running. Its worker ends it at the next step.", JobDocument),
    },
    (404,),
)
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


@routes.post("/<job_id>/retry")
@describe("submit", SUBMITTED, (*SUBMIT_ERRORS, 404, 409, 507), parameters=PREFERENCES)
def retry(job_id: str) -> ResponseReturnValue:
    """Submit a failed or canceled job again, as a new job with the same parameters and upload.

    `retry_of` of the new job is the id of the old one, which stays as it is.
    """
    return submit_response(retry_job(current_backend(), access.job(job_id)))


@routes.delete("/<job:job_id>")
@describe("submit", {204: AnswerSpec("The job is deleted.")}, (404, 409))
def forget(job_id: str) -> ResponseReturnValue:
    """Delete an ended job and its files."""
    access.job(job_id)
    current_backend().forget(job_id)
    logger.info("forgotten", extra=facts(job=job_id))
    return "", 204
