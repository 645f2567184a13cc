"""The response with the file of a job's result, which supports byte ranges."""

from collections.abc import Mapping
from pathlib import Path

from flask import Response, request, send_file

from webapi.description.parts import BINARY, MP4, NDJSON, RECORDS, Json, header
from webapi.description.route import AnswerSpec
from webapi.services.backend import current_backend
from worker.jobs.errors import JobConflict, JobNotFound, Unsupported
from worker.jobs.media.files import RESULTS
from worker.jobs.media.stored_file import StoredFile
from worker.jobs.records import Record

__all__ = ["FILE_ANSWERS", "check_succeeded", "file_answers", "file_response", "result_file"]

_WHOLE = {"Accept-Ranges": header("The route supports byte ranges.", const="bytes")}
_PART = _WHOLE | {
    "Content-Range": header("The range of bytes in this response.", pattern=r"^bytes (\d+-\d+|\*)/\d+$")
}
#: What a file may be, by its media type.
FILES = {MP4: BINARY, NDJSON: RECORDS}


def file_answers(description: str, content: Mapping[str, Json]) -> dict[int, AnswerSpec]:
    """Describe the responses: the whole file, a part, and none for a client whose copy is current.

    `content` says what the file may be, by its media type.
    """
    return {
        200: AnswerSpec(description, headers=_WHOLE, content=content),
        206: AnswerSpec("A part of it.", headers=_PART, content=content),
        304: AnswerSpec("The client's copy is current."),
    }


#: The descriptions of the responses with a job's result.
FILE_ANSWERS = file_answers("The video, or the records of a model that finds facts.", FILES)


def check_succeeded(record: Record) -> None:
    """Raise `JobConflict` with the reason if the job has no result."""
    if record.state == "failed":
        reason = record.error["message"] if record.error else "no reason was given"
        raise JobConflict(f"the job failed: {reason}")
    if record.state == "canceled":
        raise JobConflict("the job was canceled")
    if not record.terminal:
        raise JobConflict(f"the job is {record.state}; it has no result yet")


def result_file(record: Record) -> Response:
    """Return the response with the file of the job's result.

    Raises `JobConflict` if the job has no result, `JobNotFound` if its file is gone, `MediaUnavailable` if
    the media store is away, and `Unsupported` if only a newer version knows the file's type.
    """
    check_succeeded(record)
    content_type = (record.result or {}).get("content_type", MP4)
    if content_type not in RESULTS:
        raise Unsupported(f"this version has no results of the type {content_type}")
    name = record.id + Path(RESULTS[content_type]).suffix
    try:
        file = current_backend().files(record.id).finished(content_type)
    except FileNotFoundError:
        raise JobNotFound("the result's file is gone") from None
    return file_response(file, content_type, name, f"{record.id}-{record.attempt}")


def file_response(file: Path | StoredFile, content_type: str, name: str, version: str) -> Response:
    """Return the response with a file, or with the byte range of it that the request asks for.

    `name` is the file's name for the client, and `version` identifies its content.
    """
    if isinstance(file, StoredFile):
        response = Response(mimetype=content_type)
        response.headers.set("Content-Disposition", "inline", filename=name)
        response.set_etag(f"{version}-{file.size}")
        return _from_store(response, file)
    _ignore_unserved_ranges(file.stat().st_size)
    return send_file(file, content_type, download_name=name, conditional=True)


def _from_store(response: Response, file: StoredFile) -> Response:
    """Add the requested part of the file. Only that part is read from the store, block by block."""
    response.cache_control.no_cache = True
    response.content_length = file.size
    _ignore_unserved_ranges(file.size)
    response.make_conditional(request, accept_ranges=True, complete_length=file.size)
    part = response.content_range
    if request.method == "GET" and response.status_code in (200, 206):
        response.response = file.blocks(part.start or 0, part.stop)
    return response


def _ignore_unserved_ranges(size: int) -> None:
    """Remove the Range header from the request if the whole file is the right response to it.

    Werkzeug answers 416 to every Range that it does not serve. By RFC 9110 (14.2) a server ignores other
    units, several ranges and wrong syntax. A suffix longer than the file means all of it. Only a single
    range that begins behind the end remains an error.
    """
    wanted = request.range
    plain = wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1
    if wanted is None or not plain or -(wanted.ranges[0][0] or 0) > size:
        request.environ.pop("HTTP_RANGE", None)
