"""The parts with the results of a batch, and the two files that are made of them."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from webapi.batches.batch import Batch
from webapi.batches.results import Result
from webapi.files.file import File
from webapi.files.file_store import FileStore
from webapi.services.system_threads import call_in_thread
from worker.jobs.media.stored_file import StoredFile

__all__ = ["Outputs"]

#: The kinds of files by the first byte of their lines in parts.
KINDS = {b"+": "output", b"-": "error"}


class Outputs:
    """Writes results to the media store. Methods raise `RedisError`, `MediaUnavailable` and OSError."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    def write_part(self, batch: Batch, results: Sequence[Result]) -> str:
        """Store the results as a new part, which counts when it is collected. Return its name."""
        name = uuid.uuid4().hex
        with self._files.blobs.staging() as folder:
            path = folder / name
            path.write_bytes(b"".join(result.text for result in results))
            self._files.store_content(path, f"{batch.folder}/{name}")
        return name

    def write_files(
        self, batch: Batch, parts: Sequence[str], now: float, retention_s: float
    ) -> dict[str, str]:
        """Write the output file and the error file, as far as they have lines. It may be repeated.

        Return their ids, by the names of the batch's fields.
        """
        found = {}
        with self._files.blobs.staging() as folder:
            contents = {kind: folder / kind for kind in KINDS.values()}
            for kind, path in self._split(batch, parts, contents).items():
                name = f"{batch.id}_{kind}.jsonl"
                file = File(
                    id=f"file-{hashlib.sha256(name.encode()).hexdigest()[:32]}",
                    owner=batch.owner,
                    filename=name,
                    purpose="batch_output",
                    bytes=path.stat().st_size,
                    created_at=now,
                    expires_at=now + retention_s,
                )
                self._files.add(file, path, capped=False)
                found[f"{kind}_file_id"] = file.id
        return found

    def _split(self, batch: Batch, parts: Sequence[str], paths: dict[str, Path]) -> dict[str, Path]:
        """Write the lines of each kind to its path. Return the paths that have lines."""
        with ExitStack() as stack:
            files = {kind: stack.enter_context(path.open("wb")) for kind, path in paths.items()}
            for part in parts:
                content = self._files.blobs.get(f"{batch.folder}/{part}")
                if isinstance(content, Path):
                    call_in_thread(_copy_lines, _lines(content), files)
                else:
                    _copy_lines(_lines(content), files)
        return {kind: path for kind, path in paths.items() if path.stat().st_size}

    def remove_parts(self, batch: Batch) -> None:
        """Remove the parts, also those that were never collected."""
        self._files.blobs.remove(batch.folder)


def _lines(content: Path | StoredFile) -> Iterator[bytes]:
    data = content.read_bytes() if isinstance(content, Path) else b"".join(content.blocks())
    yield from data.splitlines(keepends=True)


def _copy_lines(lines: Iterator[bytes], files: Mapping[str, IO[bytes]]) -> None:
    for line in lines:
        files[KINDS[line[:1]]].write(line[1:])
