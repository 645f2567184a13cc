"""The response with a job's finished video, which supports byte ranges."""

from flask import Response, request, send_file

from webapi.description.parts import BINARY, MP4, header
from webapi.description.route import AnswerSpec
from webapi.services.backend import current_backend
from worker.jobs.errors import JobConflict, JobNotFound
from worker.jobs.media.files import VIDEO
from worker.jobs.media.stored_file import StoredFile
from worker.jobs.records import Record

__all__ = ["VIDEO_ANSWERS", "check_succeeded", "video_file"]

_WHOLE = {"Accept-Ranges": header("The route supports byte ranges.", const="bytes")}
_PART = _WHOLE | {
    "Content-Range": header("The range of bytes in this response.", pattern=r"^bytes (\d+-\d+|\*)/\d+$")
}
#: The descriptions of the response: the whole video, a part, and none for a client whose copy is current.
VIDEO_ANSWERS = {
    200: AnswerSpec("The video.", headers=_WHOLE, content={MP4: BINARY}),
    206: AnswerSpec("A part of the video.", headers=_PART, content={MP4: BINARY}),
    304: AnswerSpec("The client's copy of the video is current."),
}


def check_succeeded(record: Record) -> None:
    """Raise `JobConflict` with the reason if the job has no result."""
    if record.state == "failed":
        reason = record.error["message"] if record.error else "no reason was given"
        raise JobConflict(f"the job failed: {reason}")
    if record.state == "canceled":
        raise JobConflict("the job was canceled")
    if not record.terminal:
        raise JobConflict(f"the job is {record.state}; it has no result yet")


def video_file(record: Record) -> Response:
    """Return the response with the job's finished video.

    Raises `JobConflict` if the job has no result, `JobNotFound` if its file is gone, and `MediaUnavailable`
    if the media store is away.
    """
    check_succeeded(record)
    try:
        video = current_backend().files(record.id).finished(VIDEO)
    except FileNotFoundError:
        raise JobNotFound("the result's file is gone") from None
    if isinstance(video, StoredFile):
        return _from_store(record, video)
    _ignore_unserved_ranges(video.stat().st_size)
    return send_file(video, MP4, download_name=f"{record.id}.mp4", conditional=True)


def _from_store(record: Record, video: StoredFile) -> Response:
    """Return the requested part of the video. Only that part is read from the store, block by block."""
    response = Response(mimetype=MP4)
    response.headers.set("Content-Disposition", "inline", filename=f"{record.id}.mp4")
    response.cache_control.no_cache = True
    response.set_etag(f"{record.id}-{record.attempt}-{video.size}")
    response.content_length = video.size
    _ignore_unserved_ranges(video.size)
    response.make_conditional(request, accept_ranges=True, complete_length=video.size)
    part = response.content_range
    if request.method == "GET" and response.status_code in (200, 206):
        response.response = video.blocks(part.start or 0, part.stop)
    return response


def _ignore_unserved_ranges(size: int) -> None:
    """Remove the Range header from the request if the whole video is the right response to it.

    Werkzeug answers 416 to every Range that it does not serve. By RFC 9110 (14.2) a server ignores other
    units, several ranges and wrong syntax. A suffix longer than the video means all of it. Only a single
    range that begins behind the end remains an error.
    """
    wanted = request.range
    plain = wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1
    if wanted is None or not plain or -(wanted.ranges[0][0] or 0) > size:
        request.environ.pop("HTTP_RANGE", None)
