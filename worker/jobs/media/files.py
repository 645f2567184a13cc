"""Where a job's files lie: a folder a job, with names of our own, never the client's."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from worker.jobs.errors import MediaUnavailable, SubmitOutcomeUnknown
from worker.jobs.media.durable import publish
from worker.jobs.media.stored_file import StoredFile

__all__ = ["NO_ROOM", "JobFiles", "Media", "rollback_unless_unknown"]

#: What the operating system says when a file cannot grow: disk, quota or file size limit.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one video job, in a folder that API and workers share."""

    folder: Path
    #: Whether it takes long to publish a file.
    remote: ClassVar[bool] = False

    @classmethod
    def at(cls, media_dir: Path, job_id: str) -> JobFiles:
        """The job's files, whether they exist or not."""
        return cls(media_dir / job_id)

    @property
    def job_id(self) -> str:
        """Whose they are."""
        return self.folder.name

    @property
    def clip(self) -> Path:
        """What the client uploaded."""
        return self.folder / "clip"

    @property
    def background(self) -> Path:
        """The background image, if the client uploaded one."""
        return self.folder / "background"

    @property
    def result(self) -> Path:
        """The finished video; it appears whole or not at all."""
        return self.folder / "result.mp4"

    @property
    def work(self) -> Path:
        """The folder of what an attempt leaves for the next one, and of files that are not finished."""
        return self.folder / "work"

    @contextmanager
    def for_upload(self) -> Iterator[None]:
        """Make a folder for a new job's files; remove it if the block fails without doubt."""
        self.folder.mkdir(parents=True)
        with rollback_unless_unknown(self.remove):
            yield

    @contextmanager
    def store_inputs(self) -> Iterator[None]:
        """Workers have what came in; no more if the block fails, but for `SubmitOutcomeUnknown`.

        Raises `MediaUnavailable`.
        """
        yield

    @contextmanager
    def checked_out(self) -> Iterator[None]:
        """The folder with all that the job has, to read and write in.

        Raises `MediaUnavailable` (then it may be tried again) and `DiskFull`.
        """
        yield

    def publish(self, partial: Path, target: Path) -> None:
        """Let the finished file appear under its name, for all others too; it survives a power cut.

        Raises `MediaUnavailable` (then it may be tried again) and OSError.
        """
        publish(partial, target)

    def video(self) -> Path | StoredFile:
        """The finished video. Raises FileNotFoundError, `MediaUnavailable`."""
        self.result.stat()
        return self.result

    def remove_work(self) -> None:
        """Remove what only a next attempt would need; no error if there is nothing."""
        shutil.rmtree(self.work, ignore_errors=True)

    def remove_result(self) -> None:
        """Remove the finished video; no error if there is none. Raises `MediaUnavailable`."""
        self.result.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove them all; no error if there are none. Raises `MediaUnavailable`."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Media(Protocol):
    """The media store: where all jobs' files lie."""

    def files(self, job_id: str) -> JobFiles:
        """The job's files, whether they exist or not."""

    def older_than(self, age_s: float) -> Iterator[JobFiles]:
        """The files of all jobs that have not changed for so long. Raises `MediaUnavailable`."""


@contextmanager
def rollback_unless_unknown(undo: Callable[[], None]) -> Iterator[None]:
    """What is undone if a submit fails; not if nobody knows, for then the job may be there, and need it.

    Nor while the media store is away: recovery does it later.
    """
    try:
        yield
    except (SubmitOutcomeUnknown, MediaUnavailable):
        raise
    except BaseException:
        with suppress(MediaUnavailable):
            undo()
        raise
