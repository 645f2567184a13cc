"""The media store in a folder of a disk that the API and the workers share."""

from collections.abc import Iterator
from pathlib import Path

from worker.jobs.ids import is_job_id
from worker.jobs.media.blobs import LocalBlobs
from worker.jobs.media.files import JobFiles

__all__ = ["LocalMedia"]


class LocalMedia:
    """The media store in the folder `root`, with one folder for each job."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.blobs = LocalBlobs(root)

    def files(self, job_id: str) -> JobFiles:
        """Return the job's files. They need not exist. Raises `InvalidJobId`."""
        return JobFiles.at(self._root, job_id)

    def all_files(self) -> Iterator[JobFiles]:
        """Yield the files of each job that has some. Names that are not job ids are omitted."""
        for folder in self._root.iterdir() if self._root.exists() else ():
            if is_job_id(folder.name):
                yield self.files(folder.name)
