"""The routes `/v1/files` of OpenAI's API: the inputs of batches, and their outputs."""

import uuid

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import UnsupportedMediaType

from webapi.auth import access, audit
from webapi.description.parts import parameter
from webapi.description.route import AnswerSpec, Body, describe
from webapi.files.documents import (
    FILE_FORM,
    FileDeleted,
    FileList,
    FileListing,
    FileObject,
    FileRequest,
)
from webapi.files.file import File
from webapi.files.file_store import FileStore
from webapi.http.bodies import query
from webapi.http.list_page import list_page
from webapi.http.result_file import file_answers, file_response
from webapi.services.backend import Backend, current_backend
from webapi.submission.free_space import FreeSpace
from webapi.submission.multipart import Parts, read_parts
from webapi.submission.slots import upload_slot
from webapi.submission.uploads import full_disk_refused
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import validate

__all__ = ["routes"]

routes = Blueprint("files", __name__, url_prefix="/v1/files")

#: What a form has besides the content of its file, in bytes.
FORM_BYTES = 64 * 1024
JSON_LINES = "application/jsonl"
LINES = {"type": "string", "description": "A line of JSON for each request or answer."}


def _files() -> FileStore:
    backend = current_backend()
    return FileStore(backend.store, backend.media)


@routes.post("")
@describe(
    "submit",
    {200: AnswerSpec("The file.", FileObject)},
    (400, 408, 413, 415, 429, 507),
    Body(form=lambda *_: FILE_FORM, example="FileForm"),
)
def create() -> ResponseReturnValue:
    """Upload a file with the requests of a batch."""
    backend, files = current_backend(), _files()
    with (
        full_disk_refused(),
        upload_slot(backend.settings, access.owner()),
        files.blobs.staging() as folder,
    ):
        parts = _receive(backend, FreeSpace(folder, backend.settings.min_free_bytes))
        form = validate(FileRequest, parts.texts, "ignore")
        now, content = backend.store.clock.now(), parts.files["file"]
        file = File(
            id=f"file-{uuid.uuid4().hex}",
            owner=access.owner(),
            filename=parts.filenames["file"][:256] or "file.jsonl",
            purpose=form.purpose,
            bytes=content.stat().st_size,
            created_at=now,
            expires_at=now + (form.seconds or backend.settings.file_retention_s),
        )
        files.add(file, content, capped=True)
    audit.log("file_created", file=file.id, bytes=file.bytes)
    return FileObject.from_file(file).model_dump()


def _receive(backend: Backend, space: FreeSpace) -> Parts:
    """Return the parts of the request's form. Its file must have a size that is allowed."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the file as multipart/form-data.")
    space.check(request.content_length or 0)
    parts = read_parts(request, space, backend.settings.max_file_bytes + FORM_BYTES, _check)
    if "file" not in parts.files:
        raise InvalidInput("file", "is required, as a file")
    return parts


def _check(parts: Parts) -> None:
    for name in parts.files.keys() - {"file"}:
        raise InvalidInput(name, "is no file of this form")


@routes.get("")
@describe("read", {200: AnswerSpec("A page of files.", FileList)}, (400, 404), query=FileListing)
def list_files() -> ResponseReturnValue:
    """List the caller's files, newest first (`desc`) or oldest first (`asc`)."""
    listing, files = query(FileListing), _files()
    found = [each for each in files.list(access.owner()) if listing.purpose in (None, each.purpose)]
    found = found if listing.order == "desc" else found[::-1]
    after = files.get(listing.after, access.owner()).id if listing.after is not None else None
    page, more = list_page(found, after, listing.limit)
    data = [FileObject.from_file(each) for each in page]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return FileList(data=data, first_id=first, last_id=last, has_more=more).model_dump()


@routes.get("/<file_id>")
@describe("read", {200: AnswerSpec("The file.", FileObject)}, (404,))
def show(file_id: str) -> ResponseReturnValue:
    """Show a file."""
    return FileObject.from_file(_files().get(file_id, access.owner())).model_dump()


@routes.get("/<file_id>/content")
@describe(
    "read",
    file_answers("The content of the file.", {JSON_LINES: LINES}),
    (404, 416),
    parameters=(parameter("Range", "The range of bytes: `bytes=0-1023`."),),
)
def content(file_id: str) -> ResponseReturnValue:
    """Download the content of a file, whole or in byte ranges."""
    files = _files()
    file = files.get(file_id, access.owner())
    return file_response(files.content(file), JSON_LINES, file.id + ".jsonl", file.id)


@routes.delete("/<file_id>")
@describe("submit", {200: AnswerSpec("The file is deleted.", FileDeleted)}, (404, 409))
def delete(file_id: str) -> ResponseReturnValue:
    """Delete a file. The input of an unfinished batch cannot be deleted."""
    files = _files()
    files.delete(files.get(file_id, access.owner()).id)
    audit.log("file_deleted", file=file_id)
    return FileDeleted(id=file_id).model_dump()
