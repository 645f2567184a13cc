"""The routes `/v1/videos` of OpenAI's API. A request uploads a clip, which the models here transform."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import dropwhile, islice
from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from webapi.auth import access
from webapi.description.parts import Json, parameter
from webapi.description.route import AnswerSpec, Body, describe
from webapi.http.bodies import query
from webapi.http.result_file import FILE_ANSWERS, result_file
from webapi.openai.routes import JOB, JOB_HEADER, SUBMIT_ERRORS, submit_named
from webapi.openai.video_schema import Deleted, Listing, Video, VideoList
from webapi.services.backend import current_backend
from webapi.services.follow import follow
from webapi.submission.clip_form import ClipForm, VideoRequest
from webapi.submission.clips import submit_clip
from webapi.submission.request_preferences import IDEMPOTENCY
from webapi.submission.submit import cancel
from worker.jobs.errors import InvalidInput, JobNotFound, ModelNotFound
from worker.jobs.logs.facts import facts, of_job
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.records import Record
from worker.jobs.specs import Requested, VideoJob, validate

__all__ = ["routes"]

logger = logging.getLogger(__name__)
routes = Blueprint("openai_videos", __name__, url_prefix="/v1/videos")

#: The form field of the clip.
CLIP = "input_reference"
#: The schema of a form field that may be any short text.
SHORT: Json = {"maxLength": 1024}
VIDEO_FORM = ClipForm(
    CLIP,
    {
        "prompt": SHORT | {"description": "Returned with the video, but not used by the models here."},
        "seconds": SHORT | {"description": "Returned with the video. Its real length is that of the clip."},
        "size": SHORT | {"description": "Returned with the video. Its real size is that of the clip."},
    },
    lenient=True,
)
#: Number of records that are read from the ledger at a time.
PAGE = 100


@routes.post("")
@describe(
    "submit",
    {200: AnswerSpec("The video's job.", Video, JOB)},
    (*SUBMIT_ERRORS, 507),
    Body(form=VIDEO_FORM.schema, example="OpenAIVideoForm"),
    parameters=IDEMPOTENCY,
    submits=VideoJob.kind,
)
def create() -> ResponseReturnValue:
    """Submit a video job and upload its clip."""
    backend = current_backend()
    try:
        job_id = submit_clip(backend, VIDEO_FORM, _with_requested, submit_named)
    except InvalidInput as error:
        if error.field == "model":
            raise ModelNotFound("model", str(error)) from None
        raise
    return _video(backend.ledger.get(job_id)), {JOB_HEADER: job_id}


def _with_requested(read: VideoRequest, clip: ClipInfo) -> VideoJob:
    """Return the spec with those fields of OpenAI's API that no model uses."""
    requested = {
        "prompt": read.texts.get("prompt"),
        "seconds": read.texts.get("seconds", f"{clip.duration_s:g}" if clip.duration_s else ""),
        "size": read.texts.get("size", f"{clip.width}x{clip.height}" if clip.width else ""),
    }
    return read.spec.model_copy(update={"requested": validate(Requested, requested)})


@routes.get("")
@describe("read", {200: AnswerSpec("A page of videos.", VideoList)}, (400, 404), query=Listing)
def list_videos() -> ResponseReturnValue:
    """List the caller's videos, newest first (`desc`) or oldest first (`asc`)."""
    listing = query(Listing)
    records = _own_records() if listing.order == "desc" else iter(list(_own_records())[::-1])
    if listing.after is not None:
        after = _record(listing.after).id
        next(records := dropwhile(lambda record: record.id != after, records), None)
    found = [
        Video.from_record(record, current_backend().settings.retention_s)
        for record in islice(records, listing.limit + 1)
    ]
    page = VideoList.from_videos(found[: listing.limit], has_more=len(found) > listing.limit)
    return page.model_dump()


def _own_records() -> Iterator[Record]:
    """Yield the records of the caller's videos, newest first."""
    after = None
    while page := current_backend().ledger.page(VideoJob.kind, limit=PAGE, after=after, owner=access.owner()):
        yield from page
        after = page[-1].id


@routes.get("/<video_id>")
@describe("read", {200: AnswerSpec("The video's job.", Video)}, (404,))
def show(video_id: str) -> ResponseReturnValue:
    """Show a video."""
    return _video(_record(video_id))


@routes.get("/<video_id>/content")
@describe(
    "read",
    FILE_ANSWERS,
    (400, 404, 409, 416),
    parameters=(
        parameter("variant", "Only the result itself is available.", "query", type="string", enum=["video"]),
        parameter("Range", "The range of bytes: `bytes=0-1023`."),
    ),
)
def content(video_id: str) -> ResponseReturnValue:
    """Download the result of a video, whole or in byte ranges."""
    record = _record(video_id)
    if request.args.get("variant", "video") != "video":
        raise InvalidInput("variant", "only the video itself is kept: leave it out")
    return result_file(record)


@routes.delete("/<video_id>")
@describe("submit", {200: AnswerSpec("The video is deleted.", Deleted)}, (404, 409))
def delete(video_id: str) -> ResponseReturnValue:
    """Delete a video and its files.

    A job that has not ended is canceled first. If it is running, the response waits until it has ended, which
    takes up to one batch.
    """
    backend, record = current_backend(), _record(video_id)
    if cancel(backend, record.id) == "running":
        for _ in follow(backend, record.id, record.events):
            pass  # wait for the terminal event
    backend.forget(record.id)
    logger.info("forgotten", extra=facts(**of_job(record)))
    return Deleted(id=video_id).model_dump()


def _record(video_id: str) -> Record:
    """Return the caller's video job. `video_id` is the job's id, with or without the prefix `video_`.

    Raises `JobNotFound`.
    """
    with suppress(JobNotFound):
        record = access.job(video_id.removeprefix("video_"))
        if record.kind == VideoJob.kind:
            return record
    raise JobNotFound(f"there is no video {video_id}")


def _video(record: Record) -> dict[str, Any]:
    return Video.from_record(record, current_backend().settings.retention_s).model_dump()
