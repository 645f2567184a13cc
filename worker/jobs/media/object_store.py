"""An object store behind a URL: any file system that fsspec knows, with a time limit for every operation."""

from __future__ import annotations

import inspect
import logging
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import split_protocol, url_to_fs

from worker.jobs.errors import ConfigurationError, MediaUnavailable
from worker.jobs.media.stored_file import StoredFile

__all__ = ["ObjectStore"]

log = logging.getLogger(__name__)

#: The time limit for an answer of the store, or for a block that it sends, in seconds.
TIMEOUT_S = 30.0
#: The slowest upload that is accepted: its time limit grows by one second for each `MIN_BYTES_PER_S` bytes.
MIN_BYTES_PER_S = 512 * 1024
#: The size of an upload's parts in bytes. Several parts are in memory at the same time.
PART_BYTES = 8 * 2**20


class ObjectStore:
    """A store of files by keys such as `job/clip`.

    Every method raises `MediaUnavailable` if the store fails or does not answer in time. The library for the
    URL reads credentials and the like from its own environment variables and files.
    """

    def __init__(
        self,
        url: str,
        loop: AbstractEventLoop | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        min_bytes_per_s: float = MIN_BYTES_PER_S,
    ) -> None:
        """Load the library for the URL, without connecting. Raises `ConfigurationError` if there is none.

        An asynchronous library runs in the event loop `loop`, by default in that of a thread which fsspec
        keeps for all such libraries. Only asynchronous libraries obey the time limits: `timeout_s` for each
        call, and for uploads one more second for each `min_bytes_per_s` bytes.
        """
        #: The time limit of the next calls, in seconds.
        self.timeout_s = timeout_s
        self._min_bytes_per_s = min_bytes_per_s
        protocol = split_protocol(url)[0]
        try:
            asynchronous = fsspec.get_filesystem_class(protocol).async_impl
            # No caches: changes by other processes must be visible, and an instance belongs to one loop.
            options: dict[str, Any] = {"skip_instance_cache": True}
            if asynchronous:
                options |= {"use_listings_cache": False, "loop": loop}
            self._fs, self._root = url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"STOKER_MEDIA_URL: {error}") from error
        self._asynchronous = asynchronous
        in_parts = asynchronous and "chunksize" in inspect.signature(self._fs._put_file).parameters
        self._upload_options = {"chunksize": PART_BYTES} if in_parts else {}

    def put(self, path: Path, key: str) -> None:
        """Upload the file as `key`. In some stores, others may see it before it is complete."""
        target = self._path(key)
        try:
            if not self._asynchronous:  # such a store may have folders; an object store has none
                self._call("makedirs", target.rpartition("/")[0], exist_ok=True)
            self._call(
                "put_file", str(path), target, upload_bytes=path.stat().st_size, **self._upload_options
            )
        except FileNotFoundError as error:  # S3: there is no such bucket
            raise _unavailable(error) from error

    def copy(self, key: str, to: str) -> None:
        """Copy the file of this key within the store. Raises FileNotFoundError if there is none."""
        target = self._path(to)
        if not self._asynchronous:
            self._call("makedirs", target.rpartition("/")[0], exist_ok=True)
        self._call("cp_file", self._path(key), target)

    def file(self, key: str, size: int | None = None) -> StoredFile:
        """Return the file of this key. Raises FileNotFoundError if there is none.

        A caller that knows the `size` of the file in bytes can pass it. Then this makes no request. If the
        file is missing, its first read raises `MediaUnavailable`.
        """
        if size is None:
            self._fs.invalidate_cache()
            size = int(self._call("info", self._path(key))["size"])
        return StoredFile(size, lambda start, stop: self._read(key, start, stop))

    def list(self, key: str = "") -> Mapping[str, int]:
        """Return the sizes in bytes of the files below `key`. The mapping's keys are relative to `key`."""
        self._fs.invalidate_cache()
        top = self._path(key)
        try:
            found = self._call("find", top, detail=True)
        except FileNotFoundError:
            return {}
        return {
            path[len(top) :].lstrip("/"): int(info["size"] or 0)
            for path, info in found.items()
            if path != top
        }

    def remove(self, key: str) -> None:
        """Remove the file of this key, or all files below it, if there are any."""
        try:
            self._call("rm", self._path(key), recursive=True)
        except FileNotFoundError:
            return

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else str(self._root)

    def _read(self, key: str, start: int, stop: int) -> bytes:
        try:
            found = bytes(self._call("cat_file", self._path(key), start=start, end=stop))
        except FileNotFoundError as error:  # the file was removed in the meantime
            raise _unavailable(error) from error
        if len(found) != stop - start:
            raise MediaUnavailable("A file in the media store has changed while it was read.")
        return found

    def _call(self, method: str, *args: Any, upload_bytes: int = 0, **options: Any) -> Any:
        """Call a method of the library, within the time limits if the library is asynchronous.

        fsspec has no time limit for other libraries. They have limits of their own, or none.
        """
        if self._asynchronous:
            options["timeout"] = self.timeout_s + upload_bytes / self._min_bytes_per_s
        try:
            return getattr(self._fs, method)(*args, **options)
        except FileNotFoundError:
            raise
        except Exception as error:  # each library has its own error classes
            log.warning("%s: %s: %s: %s", self._fs.protocol, method, type(error).__name__, error)
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> MediaUnavailable:
    """Return the error for clients, without the library's message.

    The message may contain details that clients must not see. It is in the log.
    """
    return MediaUnavailable(f"The media store is not available ({type(error).__name__}).")
