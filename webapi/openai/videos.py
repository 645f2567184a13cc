"""OpenAI's video routes: a clip as `input_reference`, for our models make videos out of videos."""

import logging
from collections.abc import Iterator
from itertools import dropwhile, islice
from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from webapi.auth import access
from webapi.http.bodies import query
from webapi.http.video_response import video_file
from webapi.openai.routes import JOB_HEADER, submit_named
from webapi.openai.video_schema import Deleted, Listing, Video, VideoList
from webapi.services.backend import current_backend
from webapi.services.follow import follow
from webapi.submission.clips import submit_clip
from webapi.submission.submit import cancel
from worker.jobs.errors import InvalidInput, JobNotFound
from worker.jobs.media.files import JobFiles
from worker.jobs.media.probe import probe
from worker.jobs.records import Record
from worker.jobs.specs import JobSpec, VideoJob, validate

__all__ = ["routes"]

logger = logging.getLogger(__name__)
routes = Blueprint("openai_videos", __name__, url_prefix="/v1/videos")

CLIP = "input_reference"
#: How many records to read from the ledger at a time.
PAGE = 100


@routes.post("")
def create() -> ResponseReturnValue:
    """Submit a video job, with its clip."""
    backend = current_backend()
    try:
        job_id = submit_clip(backend, _job, CLIP, submit_named)
    except InvalidInput as error:
        if error.field == "file":  # as native clients call it
            error.field = CLIP
        raise
    return _video(backend.ledger.get(job_id)), {JOB_HEADER: job_id}


def _job(fields: dict[str, Any], files: JobFiles) -> JobSpec:
    """The job that the form asks for. Unknown fields are ignored, as OpenAI's clients expect."""
    clip = probe(files.clip, current_backend().settings.limits)
    native = {name: value for name, value in fields.items() if name in VideoJob.model_fields}
    native["requested"] = {
        "prompt": fields.get("prompt"),
        "seconds": fields.get("seconds", f"{clip.duration_s:g}" if clip.duration_s else ""),
        "size": fields.get("size", f"{clip.width}x{clip.height}" if clip.width else ""),
    }
    return validate("video", native)


@routes.get("")
def list_videos() -> ResponseReturnValue:
    """The caller's videos, newest first or last."""
    wanted = query(Listing)
    records = _mine() if wanted.order == "desc" else iter(list(_mine())[::-1])
    if wanted.after is not None:
        after = _record(wanted.after).id
        next(records := dropwhile(lambda record: record.id != after, records), None)
    found = [
        Video.of(record, current_backend().settings.retention_s)
        for record in islice(records, wanted.limit + 1)
    ]
    page = VideoList.of(found[: wanted.limit], has_more=len(found) > wanted.limit)
    return page.model_dump()


def _mine() -> Iterator[Record]:
    """The caller's videos, newest first."""
    after = None
    while page := current_backend().ledger.page("video", limit=PAGE, after=after, owner=access.owner()):
        yield from page
        after = page[-1].id


@routes.get("/<video_id>")
def show(video_id: str) -> ResponseReturnValue:
    """The video."""
    return _video(_record(video_id))


@routes.get("/<video_id>/content")
def content(video_id: str) -> ResponseReturnValue:
    """The finished video itself, by byte ranges."""
    record = _record(video_id)
    if request.args.get("variant", "video") != "video":
        raise InvalidInput("variant", "only the video itself is kept: leave it out")
    return video_file(record)


@routes.delete("/<video_id>")
def delete(video_id: str) -> ResponseReturnValue:
    """Forget the video and its files; if it is not finished, once it is canceled, which takes a batch."""
    backend, record = current_backend(), _record(video_id)
    if cancel(backend, record.id) == "running":
        for _ in follow(backend, record.id, record.events):
            pass  # up to its end
    backend.ledger.forget(record.id)
    backend.remove_files(record.id)
    logger.info("job %s: forgotten", record.id)
    return Deleted(id=video_id).model_dump()


def _record(video_id: str) -> Record:
    """The caller's video, by its id with OpenAI's prefix or by the job's own. Raises `JobNotFound`."""
    record = access.job(video_id.removeprefix("video_"))
    if record.kind != "video":
        raise JobNotFound(f"there is no video {video_id}")
    return record


def _video(record: Record) -> dict[str, Any]:
    return Video.of(record, current_backend().settings.retention_s).model_dump()
