"""A store of files behind a URL: any file system that fsspec knows, with a limit to all waiting."""

from __future__ import annotations

import inspect
import logging
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import split_protocol, url_to_fs

from worker.jobs.errors import ConfigurationError, MediaUnavailable
from worker.jobs.media.stored_file import StoredFile

__all__ = ["Entry", "ObjectStore"]

log = logging.getLogger(__name__)

#: Seconds for the store to answer, or to give a block; for each so many bytes that it takes, one more.
ANSWER_S, SLOWEST = 30.0, 512 * 1024
#: Of an upload, in bytes: several are in memory at once.
PART = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a listing: its size in bytes, and when it changed (epoch seconds; None: it does not say)."""

    size: int
    changed: float | None


class ObjectStore:
    """Files by keys such as `job/clip`. Every method raises `MediaUnavailable` if the store does not do it.

    Credentials and the like are the library's business: its environment variables and files.
    """

    def __init__(self, url: str, loop: AbstractEventLoop | None = None) -> None:
        """Nothing connects yet. Raises `ConfigurationError` if there is no library for such a URL.

        An asynchronous library runs in `loop`, by default in a thread that fsspec has for all such.
        """
        protocol = split_protocol(url)[0]
        try:
            asynchronous = fsspec.get_filesystem_class(protocol).async_impl
            # what other processes change must be seen, and no other part of the process may have our loop
            options: dict[str, Any] = {"skip_instance_cache": True}
            if asynchronous:
                options |= {"use_listings_cache": False, "loop": loop}
            self._fs, self._root = url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"STOKER_MEDIA_URL: {error}") from error
        self._limited = asynchronous
        parts = asynchronous and "chunksize" in inspect.signature(self._fs._put_file).parameters
        self._parts = {"chunksize": PART} if parts else {}

    def put(self, path: Path, key: str) -> None:
        """Let the file appear as `key`; not in every store does it appear whole."""
        target = self._path(key)
        try:
            if not self._limited:  # a store of objects has no folders
                self._call("makedirs", target.rpartition("/")[0], exist_ok=True)
            self._call("put_file", str(path), target, more_bytes=path.stat().st_size, **self._parts)
        except FileNotFoundError as error:  # S3 says this of a bucket
            raise _unavailable(error) from error

    def file(self, key: str, size: int | None = None) -> StoredFile:
        """The file, of this size if that is known. Raises FileNotFoundError, unless it is."""
        if size is None:
            self._fs.invalidate_cache()
            size = int(self._call("info", self._path(key))["size"])
        return StoredFile(size, lambda start, stop: self._read(key, start, stop))

    def list(self, key: str = "") -> Mapping[str, Entry]:
        """The files below `key`, by what their keys have behind it."""
        self._fs.invalidate_cache()
        top = self._path(key)
        try:
            found = self._call("find", top, detail=True)
        except FileNotFoundError:
            return {}
        return {path[len(top) :].lstrip("/"): _entry(info) for path, info in found.items() if path != top}

    def remove(self, key: str) -> None:
        """Remove the file, or all below; no error if there is none."""
        try:
            self._call("rm", self._path(key), recursive=True)
        except FileNotFoundError:
            return

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else str(self._root)

    def _read(self, key: str, start: int, stop: int) -> bytes:
        try:
            found = bytes(self._call("cat_file", self._path(key), start=start, end=stop))
        except FileNotFoundError as error:  # it has been removed meanwhile
            raise _unavailable(error) from error
        if len(found) != stop - start:
            raise MediaUnavailable("A file in the media store has changed while it was read.")
        return found

    def _call(self, method: str, *args: Any, more_bytes: int = 0, **options: Any) -> Any:
        if self._limited:  # else it has limits of its own, or none: fsspec knows no other way
            options["timeout"] = ANSWER_S + more_bytes / SLOWEST
        try:
            return getattr(self._fs, method)(*args, **options)
        except FileNotFoundError:
            raise
        except Exception as error:  # each library has errors of its own
            log.warning("%s: %s: %s: %s", self._fs.protocol, method, type(error).__name__, error)
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> MediaUnavailable:
    """The libraries' own words may hold more than clients should know: the log has them."""
    return MediaUnavailable(f"The media store is not available ({type(error).__name__}).")


def _entry(info: Mapping[str, Any]) -> Entry:
    """Of what fsspec's implementations call by different names."""
    names = ("LastModified", "last_modified", "mtime", "created")  # S3; Azure; GCS, SFTP, disks; memory
    changed = next((info[name] for name in names if info.get(name)), None)
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    return Entry(int(info["size"] or 0), changed if isinstance(changed, float | int) else None)
