"""The media store in a folder of a disk that the API and the workers share."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worker.jobs.ids import is_job_id
from worker.jobs.media.files import JobFiles

__all__ = ["LocalMedia"]


class LocalMedia:
    """The media store in the folder `root`, with one folder for each job."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, job_id: str) -> JobFiles:
        """Return the job's files. They need not exist. Raises `InvalidJobId`."""
        return JobFiles.at(self._root, job_id)

    def older_than(self, age_s: float) -> Iterator[JobFiles]:
        """Yield the files of each job whose folder has not changed for `age_s` seconds.

        Names that are not job ids are omitted.
        """
        latest = time.time() - age_s
        for folder in self._root.iterdir() if self._root.exists() else ():
            with suppress(FileNotFoundError):  # a client may delete the job at the same time
                if is_job_id(folder.name) and folder.stat().st_mtime < latest:
                    yield self.files(folder.name)
