"""Files of the media store that belong to no job, by keys such as `files/file-…`."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from worker.jobs.media.durable import publish
from worker.jobs.media.staging import staging_folder
from worker.jobs.media.stored_file import StoredFile

if TYPE_CHECKING:  # a shared folder does not need fsspec
    from worker.jobs.media.object_store import ObjectStore

__all__ = ["Blobs", "LocalBlobs", "RemoteBlobs"]


class Blobs(Protocol):
    """The files that belong to no job. Methods raise `MediaUnavailable` or OSError."""

    #: Whether the files are in a remote store.
    remote: ClassVar[bool]

    def staging(self) -> AbstractContextManager[Path]:
        """Return a context with a new folder for unfinished files, which is removed at its end."""

    def put(self, path: Path, key: str) -> None:
        """Move the finished file, which is in a folder of `staging`, to this key. It may replace another."""

    def get(self, key: str) -> Path | StoredFile:
        """Return the file of this key. Raises FileNotFoundError."""

    def remove(self, key: str) -> None:
        """Remove the file of this key, or all files below it, if there are any."""


class LocalBlobs:
    """The files in the folder `root`, which the processes of an installation share."""

    remote: ClassVar[bool] = False

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a new folder on the same disk."""
        folder = self._root / "staging" / uuid.uuid4().hex
        with staging_folder(folder):
            yield folder

    def put(self, path: Path, key: str) -> None:
        """Rename the file. It survives a power cut."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(path, target)

    def get(self, key: str) -> Path | StoredFile:
        """Return the path of the file."""
        path = self._root / key
        path.stat()
        return path

    def remove(self, key: str) -> None:
        """Remove the file or folder."""
        path = self._root / key
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class RemoteBlobs:
    """The files in an object store. `staging_root` is a folder that only this machine's processes use."""

    remote: ClassVar[bool] = True

    def __init__(self, store: "ObjectStore", staging_root: Path) -> None:
        self._store = store
        self._staging_root = staging_root

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a new folder on a disk of this machine."""
        folder = self._staging_root / uuid.uuid4().hex
        with staging_folder(folder):
            yield folder

    def put(self, path: Path, key: str) -> None:
        """Upload the file."""
        self._store.put(path, key)

    def get(self, key: str) -> Path | StoredFile:
        """Return the file, which is read block by block."""
        return self._store.file(key)

    def remove(self, key: str) -> None:
        """Remove the file, or all files below the key."""
        self._store.remove(key)
