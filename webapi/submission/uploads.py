"""Reception of multipart uploads into a job's folder, as a whole or not at all."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedRandom, FileIO
from pathlib import Path
from typing import IO, Any

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from webapi.auth import access
from webapi.services.system_threads import call_in_thread
from webapi.submission.free_space import FreeSpace
from webapi.submission.slots import probe_slot
from worker.jobs.errors import DiskFull, InvalidInput, TooLarge
from worker.jobs.media.durable import publish
from worker.jobs.media.files import NO_ROOM, JobFiles
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.media.probe.probe_process import probe_in_process
from worker.jobs.settings import Settings

__all__ = ["MAX_PARTS", "Parts", "full_disk_refused", "place", "probe", "receive"]

#: Largest text field, in bytes. It must be well above the 64 KiB that the parser reads at a time.
MAX_FIELD_BYTES = 2**19
MAX_PARTS = 64


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a received form, by name: its texts, and where its files are."""

    texts: Mapping[str, str]
    files: Mapping[str, Path]


class PartFile(BufferedRandom):
    """A new file that grows as long as there is `space`. Its writes raise `DiskFull` then."""

    def __init__(self, path: Path, space: FreeSpace) -> None:
        super().__init__(FileIO(path, "xb+"))
        self._space = space

    def write(self, data: Any, /) -> int:
        """Write the data, and return the number of bytes."""
        written = super().write(data)
        self._space.count(written)
        time.sleep(0)  # serve other clients, because the next block of a fast client has arrived already
        return written


@dataclass(slots=True)
class PartFiles:
    """A source of files in the folder of `space`, one for each file of the body.

    Their names count the files. Names that the client sends are never used.
    """

    space: FreeSpace
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
        return self.stack.enter_context(PartFile(self.space.folder / f"part{self.count}", self.space))


@contextmanager
def receive(request: Request, files: JobFiles, settings: Settings) -> Iterator[Parts]:
    """Receive the form into the job's folder, and yield its parts.

    Raises `InvalidInput` for a part that is given twice, `TooLarge`, `DiskFull`, `UnsupportedMediaType`,
    `BadRequest` or OSError.
    If receiving or the block fails, the files are deleted. After `SubmitOutcomeUnknown` they stay, because
    the job may be in the ledger and need them.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the clip as multipart/form-data.")
    with files.for_upload():
        space = FreeSpace(files.folder, settings.min_free_bytes)
        space.check(request.content_length or 0)
        form, uploads = _parse(request, space, settings.max_upload_bytes)
        given = Counter(name for name, _ in [*form.items(multi=True), *uploads.items(multi=True)])
        if repeated := next((name for name, times in given.items() if times > 1), None):
            raise InvalidInput(repeated, "is given more than once")
        yield Parts(form.to_dict(), {name: Path(each.stream.name) for name, each in uploads.items()})


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """Raise `DiskFull` in place of an OSError with which the disk refuses a file."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull("There is no room for the upload.") from error
        raise


def _parse(
    request: Request, space: FreeSpace, max_bytes: int
) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    with ExitStack() as stack:
        parser = FormDataParser(
            stream_factory=PartFiles(space, stack).open,
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


def place(source: Path, target: Path) -> None:
    """Move a received file to its place in the job's folder."""
    call_in_thread(publish, source, target)


def probe(field: str, path: Path, settings: Settings, *, picture: bool = False) -> ClipInfo:
    """Return the properties of a received clip or picture. Raises `InvalidInput` that names the field."""
    with probe_slot(settings, access.owner()) as descriptors:
        return probe_in_process(field, path, settings.limits, picture=picture, keep_open=descriptors)
