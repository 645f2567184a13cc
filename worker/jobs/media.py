"""Where a job's files lie: a folder a job, with names of our own, never the client's."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NO_ROOM", "JobFiles", "publish"]

#: What the operating system says when a file cannot grow: disk, quota or file size limit.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one video job under `Settings.media_dir`."""

    folder: Path

    @classmethod
    def of(cls, media_dir: Path, job_id: str) -> "JobFiles":
        """The job's files, whether they exist or not."""
        return cls(media_dir / job_id)

    @classmethod
    def older_than(cls, media_dir: Path, age_s: float) -> "Iterator[JobFiles]":
        """The files of all jobs that have not changed for so long."""
        latest = time.time() - age_s
        for folder in media_dir.iterdir() if media_dir.exists() else ():
            with suppress(FileNotFoundError):  # a client may forget it just now
                if folder.stat().st_mtime < latest:
                    yield cls(folder)

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

    def remove_work(self) -> None:
        """Remove what only a next attempt would need; no error if there is nothing."""
        shutil.rmtree(self.work, ignore_errors=True)

    def remove(self) -> None:
        """Remove them all; no error if there are none."""
        shutil.rmtree(self.folder, ignore_errors=True)


def publish(partial: Path, target: Path) -> None:
    """Let the finished file `partial` appear as `target`, on the same file system; both survive a power cut.

    Raises OSError.
    """
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Have the kernel put a file, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
