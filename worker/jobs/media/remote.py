"""The media store behind a URL.

The files that a process works on are staged in a folder of this machine. Finished files are uploaded.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.jobs.errors import DiskFull
from worker.jobs.ids import checked_job_id, is_job_id
from worker.jobs.media.blobs import RemoteBlobs
from worker.jobs.media.files import NO_ROOM, RESULTS, JobFiles, rollback_unless_unknown
from worker.jobs.media.object_store import ObjectStore
from worker.jobs.media.staging import staging_folder
from worker.jobs.media.stored_file import StoredFile

__all__ = ["RemoteMedia"]

#: The names of the files that a client has uploaded, as a regular expression.
_INPUT = r"clip|background|upload-\w+"


class RemoteMedia:
    """The media store in an object store. `staging` is a folder that only this machine's processes use."""

    def __init__(self, store: ObjectStore, staging: Path) -> None:
        self._store = store
        self._staging = staging
        self.blobs = RemoteBlobs(store, staging)

    def files(self, job_id: str) -> JobFiles:
        """Return the job's files, with a staging folder of their own. They need not exist.

        Raises `InvalidJobId`.
        """
        return RemoteFiles(self._staging / f"{checked_job_id(job_id)}.{uuid.uuid4().hex}", self._store)

    def all_files(self) -> Iterator[JobFiles]:
        """Yield the files of each job that has some. Keys that do not start with a job id are omitted.

        Raises `MediaUnavailable`.
        """
        for job_id in sorted({key.partition("/")[0] for key in self._store.list()}):
            if is_job_id(job_id):
                yield self.files(job_id)


@dataclass(frozen=True, slots=True)
class RemoteFiles(JobFiles):
    """The files of one video job in the object store. `folder` is the staging folder.

    Each attempt and each upload has a staging folder of its own, so that they cannot disturb one another.
    """

    store: ObjectStore
    remote = True

    @property
    def job_id(self) -> str:
        """The id of the job that the files belong to."""
        return self.folder.name.partition(".")[0]

    @contextmanager
    def for_upload(self) -> Iterator[None]:
        """Create the staging folder for a new job's files while the block runs."""
        with staging_folder(self.folder):
            yield

    def take_inputs(self, source: JobFiles) -> int:
        """Let the store copy the inputs of another job, and return their bytes."""
        found = self.store.list(source.job_id)
        inputs = {name: size for name, size in found.items() if re.fullmatch(_INPUT, name)}
        if self.clip.name not in inputs:
            raise FileNotFoundError(source.job_id)
        for name in inputs:
            self.store.copy(f"{source.job_id}/{name}", f"{self.job_id}/{name}")
        return sum(inputs.values())

    @contextmanager
    def store_inputs(self) -> Iterator[None]:
        """Upload the inputs. Remove them from the store again if the block raises."""
        with rollback_unless_unknown(self.remove):
            for path in self.inputs:
                self.store.put(path, self._key(path))
            yield

    @contextmanager
    def checked_out(self, *, work: bool = True) -> Iterator[None]:
        """Download all files of the job but its result into the staging folder, and remove it afterwards."""
        with staging_folder(self.folder):
            self._fetch(self.store.list(self.job_id), work=work)
            yield

    def fetch_work(self) -> None:
        """Download the files in `work` that are not staged."""
        found = self.store.list(self._key(self.work))
        self._fetch({f"{self.work.name}/{name}": size for name, size in found.items()})

    def publish(self, partial: Path, target: Path) -> None:
        """Upload the finished file, and rename the staged copy to `target`.

        The key of a file in `work` ends with the file's size. `_staged_path` checks it.
        """
        key = self._key(target)
        if target.is_relative_to(self.work):
            key += f".{partial.stat().st_size}"
        self.store.put(partial, key)
        partial.rename(target)

    def finished(self, content_type: str) -> Path | StoredFile:
        """Return the finished result of this type. Raises FileNotFoundError and `MediaUnavailable`."""
        return self.store.file(f"{self.job_id}/{RESULTS[content_type]}")

    def remove_work(self) -> None:
        """Remove the files that only a later attempt would need."""
        self.store.remove(self._key(self.work))

    def remove_inputs(self) -> None:
        """Remove everything but the result from the store."""
        found = {name.partition("/")[0] for name in self.store.list(self.job_id)}
        for name in found - {*RESULTS.values()}:
            self.store.remove(f"{self.job_id}/{name}")

    def remove_result(self) -> None:
        """Remove the finished video or records."""
        for path in (self.result, self.records):
            self.store.remove(self._key(path))

    def remove(self) -> None:
        """Remove all files of the job from the store."""
        self.store.remove(self.job_id)

    def _key(self, path: Path) -> str:
        return f"{self.job_id}/{path.relative_to(self.folder).as_posix()}"

    def _fetch(self, found: Mapping[str, int], *, work: bool = True) -> None:
        """Download the files with these names and sizes, except for those that are staged already."""
        try:
            for name, size in found.items():
                target = self._staged_path(name, size)
                if target and not target.exists() and (work or not target.is_relative_to(self.work)):
                    self._download(name, size, target)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull("There is no room for the job's files.") from error
            raise

    def _download(self, name: str, size: int, target: Path) -> None:
        """Download a file, block by block, because the store's time limit applies to each block."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        with partial.open("wb") as file:
            for block in self.store.file(f"{self.job_id}/{name}", size).blocks():
                file.write(block)
        partial.rename(target)

    def _staged_path(self, name: str, size: int) -> Path | None:
        """Return the staging path of a stored file, or None if the file is not to be downloaded.

        A worker may be killed during an upload, and some stores then show an incomplete file. So the key of a
        work file ends with its size. A file whose size differs is skipped. So is a name that Stoker does not
        use, because a name such as `../x` would leave the staging folder.
        """
        if not re.fullmatch(rf"{_INPUT}|work(/[\w-][\w.-]*)+", name):
            return None
        if name.startswith(f"{self.work.name}/"):
            name, _, full_size = name.rpartition(".")
            return self.folder / name if full_size == str(size) else None
        return self.folder / name
