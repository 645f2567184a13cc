"""Reception of multipart uploads into a job's folder, as a whole or not at all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from worker.jobs.errors import DiskFull, InvalidInput, TooLarge
from worker.jobs.limits import Limits
from worker.jobs.media.durable import publish
from worker.jobs.media.files import NO_ROOM, JobFiles
from worker.jobs.media.probe_process import probe_in_process
from worker.jobs.settings import Settings

__all__ = ["MAX_PARTS", "receive"]

#: Largest text field, in bytes. It must be well above the 64 KiB that the parser reads at a time.
MAX_FIELD_BYTES = 2**19
MAX_PARTS = 16


@dataclass(slots=True)
class PartFiles:
    """A source of files in `folder`, one for each file of the body.

    Their names count the files. Names that the client sends are never used.
    """

    folder: Path
    stack: ExitStack
    count: int = 0

    def open(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        """Open a new file for the parser to write to. The client's statements about the file are ignored."""
        self.count += 1
        return self.stack.enter_context((self.folder / f"part{self.count}").open("wb+"))


@contextmanager
def receive(
    request: Request, files: JobFiles, settings: Settings, clip: str = "file"
) -> Iterator[dict[str, Any]]:
    """Receive the form, check the clip and the background image, and yield the form's text fields.

    `clip` is the name of the form's field with the clip. In the block both files lie in their places.

    Raises `InvalidInput` naming the field, `TooLarge`, `DiskFull`, `UnsupportedMediaType` or `BadRequest`.
    If receiving or the block fails, the files are deleted. After `SubmitOutcomeUnknown` they stay, because
    the job may be in the ledger and need them.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the clip as multipart/form-data.")
    try:
        with files.for_upload():
            form, uploads = _parse(request, files.folder, settings.max_upload_bytes)
            yield _place(form, uploads, files, settings.limits, clip)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull("There is no room for the upload.") from error
        raise


def _parse(
    request: Request, folder: Path, max_bytes: int
) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    with ExitStack() as stack:
        parser = FormDataParser(
            stream_factory=PartFiles(folder, stack).open,
            max_form_memory_size=MAX_FIELD_BYTES,
            max_content_length=max_bytes,
            max_form_parts=MAX_PARTS,
            silent=False,
        )
        try:
            _, form, uploads = parser.parse_from_environ(request.environ)
        except RequestEntityTooLarge:
            limits = f"{max_bytes} bytes, {MAX_PARTS} parts and {MAX_FIELD_BYTES} bytes of text in a part"
            raise TooLarge("file", f"the upload may have at most {limits}") from None
        except ValueError as error:
            raise BadRequest(f"The multipart body cannot be parsed: {error}.") from None
    return form, uploads


def _place(
    form: MultiDict[str, str],
    uploads: MultiDict[str, FileStorage],
    files: JobFiles,
    limits: Limits,
    clip: str,
) -> dict[str, Any]:
    given = Counter(name for name, _ in [*form.items(multi=True), *uploads.items(multi=True)])
    if repeated := next((name for name, times in given.items() if times > 1), None):
        raise InvalidInput(repeated, "is given more than once")
    if "background_image" in form:
        raise InvalidInput("background_image", "is not a field of this request")
    if clip not in uploads:
        raise InvalidInput(clip, f"{clip} is missing: the clip, as a file")
    places = {clip: files.clip, "background": files.background}
    for name, upload in uploads.items():
        if name not in places:
            raise InvalidInput(name, "is not a file of this request")
        publish(Path(upload.stream.name), places[name])
    probe_in_process("file", files.clip, limits)
    if "background" in uploads:
        probe_in_process("background", files.background, limits)
    return {**form.to_dict(), "background_image": "background" in uploads}
