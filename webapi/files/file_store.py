"""The file store: the descriptions of files in Redis, and their contents in the media store."""

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from webapi.files.file import File
from webapi.services.system_threads import call_in_thread
from worker.jobs.errors import FileNotKept, JobConflict, MediaUnavailable, StorageFull
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.files import Media
from worker.jobs.media.stored_file import StoredFile

__all__ = ["FileStore"]

log = logging.getLogger(__name__)

#: Seconds after which the content of a file is removed whose upload has ended without an answer.
UNFINISHED_S = 86_400.0


class FileStore:
    """The files of `/v1/files`. Methods raise `RedisError` and `MediaUnavailable`."""

    def __init__(self, store: RedisStore, media: Media) -> None:
        self._store = store
        self._redis = store.client
        self._expiry = store.key("files", "expiry")
        self.blobs = media.blobs

    def announce(self, file_id: str) -> None:
        """Note that a content may come, so that it is removed a day later if no `add` follows."""
        self._redis.zadd(self._expiry, {file_id: self._store.clock.now() + UNFINISHED_S}, nx=True)

    def add(self, file: File, content: Path, *, capped: bool) -> None:
        """Keep this new file, whose content is in a folder of `blobs.staging`. It may be repeated.

        Raises `StorageFull` if it is `capped` and its owner keeps too much.
        """
        self.announce(file.id)
        self.store_content(content, file.key)
        settings, fields = self._store.settings, asdict(file)
        caps = settings.max_files_per_key, settings.max_files_bytes_per_key
        known = fields.pop("id"), fields.pop("owner"), file.expires_at
        pairs = [each for pair in fields.items() for each in pair]
        args = settings.prefix, *known, *(caps if capped else ("", "")), *pairs
        outcome = self._store.scripts.eval_replicated("create_file", *args)
        if outcome != "ok":
            self._remove_content(file.id)
            most = {"files": f"{caps[0]} files", "bytes": f"{caps[1]} bytes of files"}[outcome]
            raise StorageFull(f"an API key may keep {most}; delete some", retry_after_s=60)

    def store_content(self, content: Path, key: str) -> None:
        """Move a finished file from a folder of `blobs.staging` to this key of the media store."""
        if self.blobs.remote:  # its library belongs to gevent, see `gevent_media`
            self.blobs.put(content, key)
        else:
            call_in_thread(self.blobs.put, content, key)  # it waits for the disk

    def get(self, file_id: str, owner: str) -> File:
        """Return the owner's file. Raises `FileNotKept`."""
        fields = cast("dict[str, str]", self._redis.hgetall(self._store.key("file", file_id)))
        if not fields or fields["owner"] != owner:
            raise FileNotKept(f"there is no file {file_id}")
        return File.from_hash(file_id, fields)

    def list(self, owner: str) -> Sequence[File]:
        """Return the owner's files, newest first."""
        index = self._store.key("owner", owner, "files")
        ids = cast("list[str]", self._redis.zrange(index, 0, -1, desc=True))
        found = self._store.hashes([self._store.key("file", file_id) for file_id in ids])
        return [File.from_hash(i, fields) for i, fields in zip(ids, found, strict=True) if fields]

    def content(self, file: File) -> Path | StoredFile:
        """Return the file's content. Raises `FileNotKept`."""
        try:
            return self.blobs.get(file.key)
        except FileNotFoundError:
            raise FileNotKept(f"the content of {file.id} is gone") from None

    def delete(self, file_id: str) -> None:
        """Delete the file. Raises `JobConflict` if an unfinished batch needs it."""
        args = self._store.settings.prefix, file_id
        if not self._store.scripts.eval_replicated("delete_file", *args):
            raise JobConflict("an unfinished batch needs the file; cancel the batch first")
        try:
            self._remove_content(file_id)
        except MediaUnavailable as error:
            log.warning("%s: its content is removed later: %s", file_id, error)

    def delete_expired(self) -> None:
        """Delete the files whose time is over and that no batch needs, and what failed uploads have left."""
        now = self._store.clock.read()
        for file_id in cast("list[str]", self._redis.zrangebyscore(self._expiry, "-inf", now)):
            if self._store.scripts.eval("delete_file", self._store.settings.prefix, file_id):
                self._remove_content(file_id)

    def _remove_content(self, file_id: str) -> None:
        if re.fullmatch(r"file-[0-9a-f]{32}", file_id):  # a text such as ".." would name other files
            self.blobs.remove(f"files/{file_id}")
        self._redis.zrem(self._expiry, file_id)
