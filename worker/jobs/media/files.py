"""The files of a video job, in one folder for each job. Their names never come from the client."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from worker.jobs.errors import MediaUnavailable, SubmitOutcomeUnknown
from worker.jobs.ids import checked_job_id
from worker.jobs.media.blobs import Blobs
from worker.jobs.media.durable import publish
from worker.jobs.media.stored_file import StoredFile

__all__ = ["NO_ROOM", "RECORDS", "RESULTS", "VIDEO", "JobFiles", "Media", "rollback_unless_unknown"]

#: Error numbers of the operating system for a file that cannot grow: the disk is full, or a quota or the file
#: size limit is reached.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: The content types of results, and the names of their files.
VIDEO, RECORDS = "video/mp4", "application/x-ndjson"
RESULTS = {VIDEO: "result.mp4", RECORDS: "result.ndjson"}
#: The names that an option with a file can have. They become parts of file names.
OPTION = re.compile(r"\w{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one video job, in a folder that the API and the workers share."""

    folder: Path
    #: Whether the files are uploaded to a remote store, so that publishing one may take long.
    remote: ClassVar[bool] = False

    @classmethod
    def at(cls, media_dir: Path, job_id: str) -> JobFiles:
        """Return the job's files. They need not exist. Raises `InvalidJobId`."""
        return cls(media_dir / checked_job_id(job_id))

    @property
    def job_id(self) -> str:
        """The id of the job that the files belong to."""
        return self.folder.name

    @property
    def clip(self) -> Path:
        """The clip that the client uploaded."""
        return self.folder / "clip"

    def upload(self, option: str) -> Path:
        """Return the file that the client uploaded as this option. Raises ValueError if it is no name."""
        if not OPTION.fullmatch(option):
            raise ValueError(f"{option!r} cannot be the name of an option")
        # The name of a background is older than the other options.
        return self.folder / (option if option == "background" else f"upload-{option}")

    @property
    def inputs(self) -> list[Path]:
        """The clip and the other uploaded files that are in `folder`."""
        paths = [self.clip, self.upload("background"), *sorted(self.folder.glob("upload-*"))]
        return [path for path in paths if path.exists()]

    @property
    def result(self) -> Path:
        """The finished video. It appears complete or not at all."""
        return self.folder / RESULTS[VIDEO]

    @property
    def records(self) -> Path:
        """The finished records, a line of JSON for each frame. They appear complete or not at all."""
        return self.folder / RESULTS[RECORDS]

    @property
    def work(self) -> Path:
        """The folder for files that an attempt leaves for the next one, and for unfinished files."""
        return self.folder / "work"

    @property
    def input_bytes(self) -> int:
        """The bytes of `inputs`."""
        return sum(path.stat().st_size for path in self.inputs)

    @contextmanager
    def for_upload(self) -> Iterator[None]:
        """Create the folder for a new job's files. Remove it if the block raises.

        `rollback_unless_unknown` lists the errors after which the folder stays.
        """
        self.folder.mkdir(parents=True)
        with rollback_unless_unknown(self.remove):
            yield

    def take_inputs(self, source: JobFiles) -> int:
        """Take the inputs of another job over into the new `folder`, and return their bytes. None is copied.

        Raises FileNotFoundError if that job's files are gone, and `MediaUnavailable`.
        """
        source.clip.stat()
        for path in source.inputs:
            (self.folder / path.name).hardlink_to(path)
        return self.input_bytes

    @contextmanager
    def store_inputs(self) -> Iterator[None]:
        """Make the uploaded files available to the workers. Remove them again if the block raises.

        `rollback_unless_unknown` lists the errors after which the files stay. Raises `MediaUnavailable`.
        """
        yield

    @contextmanager
    def checked_out(self, *, work: bool = True) -> Iterator[None]:
        """Make all files of the job available in `folder` while the block runs. The block may write there.

        Without `work`, the files of other attempts and workers are not needed. Raises `MediaUnavailable`,
        after which the caller may try again, and `DiskFull`.
        """
        yield

    def fetch_work(self) -> None:
        """Make the files that other workers have published in `work` available. Raises `MediaUnavailable`."""

    def publish(self, partial: Path, target: Path) -> None:
        """Rename the finished file to `target`, and make it available to the API and to all workers.

        The file survives a power cut. Raises `MediaUnavailable`, after which the caller may try again, and
        OSError.
        """
        publish(partial, target)

    def finished(self, content_type: str) -> Path | StoredFile:
        """Return the finished result of this type. Raises FileNotFoundError and `MediaUnavailable`."""
        path = self.folder / RESULTS[content_type]
        path.stat()
        return path

    def remove_work(self) -> None:
        """Remove the files that only a later attempt would need, if there are any."""
        shutil.rmtree(self.work, ignore_errors=True)

    def remove_inputs(self) -> None:
        """Remove everything but the result, if there is anything. Raises `MediaUnavailable`."""
        for path in self.inputs:
            path.unlink(missing_ok=True)
        self.remove_work()

    def remove_result(self) -> None:
        """Remove the finished video or records if there are any. Raises `MediaUnavailable`."""
        self.result.unlink(missing_ok=True)
        self.records.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all files of the job, if there are any. Raises `MediaUnavailable`."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Media(Protocol):
    """A media store: it holds the files of all video jobs, and in `blobs` those that belong to no job."""

    @property
    def blobs(self) -> Blobs:
        """The files that belong to no job."""

    def files(self, job_id: str) -> JobFiles:
        """Return the job's files. They need not exist. Raises `InvalidJobId`."""

    def all_files(self) -> Iterator[JobFiles]:
        """Yield the files of each job that has some. Raises `MediaUnavailable`."""


@contextmanager
def rollback_unless_unknown(undo: Callable[[], None]) -> Iterator[None]:
    """Call `undo` if the block raises, with two exceptions.

    - After `SubmitOutcomeUnknown` the job may have been accepted, and it would need its files.
    - While the media store is not available (`MediaUnavailable`), recovery removes the files later.
    """
    try:
        yield
    except (SubmitOutcomeUnknown, MediaUnavailable):
        raise
    except BaseException:
        with suppress(MediaUnavailable):
            undo()
        raise
