"""The media store on a disk that the API and the workers share."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worker.jobs.media.files import JobFiles

__all__ = ["LocalMedia"]


class LocalMedia:
    """The media store on a disk that API and workers share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, job_id: str) -> JobFiles:
        """The job's files, whether they exist or not."""
        return JobFiles.at(self._root, job_id)

    def older_than(self, age_s: float) -> Iterator[JobFiles]:
        """The files of all jobs that have not changed for so long."""
        latest = time.time() - age_s
        for folder in self._root.iterdir() if self._root.exists() else ():
            with suppress(FileNotFoundError):  # a client may forget it just now
                if folder.stat().st_mtime < latest:
                    yield JobFiles(folder)
