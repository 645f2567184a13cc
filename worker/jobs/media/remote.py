"""Media in a store that is on no disk: what is worked on is staged here, and what is finished goes there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from worker.jobs.errors import DiskFull
from worker.jobs.media.files import NO_ROOM, JobFiles, rollback_unless_unknown
from worker.jobs.media.object_store import Entry, ObjectStore
from worker.jobs.media.staging import staging_folder
from worker.jobs.media.stored_file import StoredFile

__all__ = ["RemoteMedia"]


class RemoteMedia:
    """The media store behind a URL; `staging` is a folder that belongs to this machine's processes."""

    def __init__(self, store: ObjectStore, staging: Path) -> None:
        self._store = store
        self._staging = staging

    def files(self, job_id: str) -> JobFiles:
        """The job's files, whether they exist or not."""
        return RemoteFiles(self._staging / f"{job_id}.{uuid.uuid4().hex}", self._store)

    def older_than(self, age_s: float) -> Iterator[JobFiles]:
        """The files of all jobs that have not changed for so long; not where the store does not tell."""
        latest = time.time() - age_s
        listed = sorted(self._store.list().items())
        for job_id, files in groupby(listed, lambda item: item[0].partition("/")[0]):
            if all(entry.changed is not None and entry.changed < latest for _, entry in files):
                yield self.files(job_id)


@dataclass(frozen=True, slots=True)
class RemoteFiles(JobFiles):
    """The files of one video job in the store; `folder` is where those that are needed are staged.

    Each attempt, and each upload, has a folder of its own, so that none can be in the way of another.
    """

    store: ObjectStore
    remote = True

    @property
    def job_id(self) -> str:
        """Whose they are."""
        return self.folder.name.partition(".")[0]

    @contextmanager
    def for_upload(self) -> Iterator[None]:
        """A folder for a new job's files to come into."""
        with staging_folder(self.folder):
            yield

    @contextmanager
    def store_inputs(self) -> Iterator[None]:
        """Workers have what came in, unless the block fails."""
        with rollback_unless_unknown(self.remove):
            for path in (self.clip, self.background):
                if path.exists():
                    self.store.put(path, self._key(path))
            yield

    @contextmanager
    def checked_out(self) -> Iterator[None]:
        """The folder with all that the job has but its result, to read and write in."""
        with staging_folder(self.folder):
            try:
                self._fetch()
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise DiskFull("There is no room for the job's files.") from error
                raise
            yield

    def publish(self, partial: Path, target: Path) -> None:
        """Let the finished file appear under its name, for all others too."""
        key = self._key(target)
        if target.is_relative_to(self.work):
            key += f".{partial.stat().st_size}"
        self.store.put(partial, key)
        partial.rename(target)

    def video(self) -> Path | StoredFile:
        """The finished video."""
        return self.store.file(self._key(self.result))

    def remove_work(self) -> None:
        """Remove what only a next attempt would need."""
        self.store.remove(self._key(self.work))

    def remove_result(self) -> None:
        """Remove the finished video."""
        self.store.remove(self._key(self.result))

    def remove(self) -> None:
        """Remove them all."""
        self.store.remove(self.job_id)

    def _key(self, path: Path) -> str:
        return f"{self.job_id}/{path.relative_to(self.folder).as_posix()}"

    def _fetch(self) -> None:
        """By blocks, one after the other: each has its time limit."""
        for name, entry in self.store.list(self.job_id).items():
            if target := self._place(name, entry):
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    for block in self.store.file(f"{self.job_id}/{name}", entry.size).blocks():
                        file.write(block)

    def _place(self, name: str, entry: Entry) -> Path | None:
        """Where what the store calls so is staged, if it is.

        A worker may be killed while it stores something, and some stores show what they have of it: so what
        is left for a next attempt is named after its size there.
        """
        if name.startswith(f"{self.work.name}/"):
            name, _, size = name.rpartition(".")
            return self.folder / name if size == str(entry.size) else None
        return None if name == self.result.name else self.folder / name
