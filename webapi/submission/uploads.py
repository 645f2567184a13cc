"""Reception of multipart uploads into a job's folder, as a whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from webapi.auth import access
from webapi.services.system_threads import call_in_thread
from webapi.submission.free_space import FreeSpace
from webapi.submission.multipart import Parts, read_parts
from webapi.submission.slots import probe_slot
from worker.jobs.errors import DiskFull
from worker.jobs.media.durable import publish
from worker.jobs.media.files import NO_ROOM, JobFiles
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.media.probe.probe_process import probe_in_process
from worker.jobs.settings import Settings

__all__ = ["full_disk_refused", "place", "probe", "receive"]


@contextmanager
def receive(
    request: Request, files: JobFiles, settings: Settings, check: Callable[[Parts], None]
) -> Iterator[Parts]:
    """Receive the form into the job's folder, and yield its parts.

    `check` gets the parts so far before each file is received, and may raise an error.

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
        yield read_parts(request, space, settings.max_upload_bytes, check)


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """Raise `DiskFull` in place of an OSError with which the disk refuses a file."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull("There is no room for the upload.") from error
        raise


def place(source: Path, target: Path) -> None:
    """Move a received file to its place in the job's folder."""
    call_in_thread(publish, source, target)


def probe(field: str, path: Path, settings: Settings, *, picture: bool = False) -> ClipInfo:
    """Return the properties of a received clip or picture. Raises `InvalidInput` that names the field."""
    with probe_slot(settings, access.owner()) as descriptors:
        return probe_in_process(field, path, settings.limits, picture=picture, keep_open=descriptors)
