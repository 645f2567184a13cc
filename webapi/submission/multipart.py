"""Multipart bodies: their texts are kept in memory, and their files on disk."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any

from flask import Request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData
from werkzeug.wsgi import get_input_stream

from webapi.submission.free_space import FreeSpace
from worker.jobs.errors import InvalidInput, TooLarge

__all__ = ["MAX_PARTS", "Parts", "read_parts"]

#: Bytes of a body that are read at a time.
BLOCK_BYTES = 2**16
#: Largest text field, in bytes. It must be well above `BLOCK_BYTES`.
MAX_FIELD_BYTES = 2**19
MAX_PARTS = 64

Events = Iterator[Field | File | Data]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a form, by name: its texts, where its files are, and their names at the client."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    filenames: dict[str, str] = field(default_factory=dict)


class PartFile(BufferedWriter):
    """A new file that grows as long as there is `space`. Its writes raise `DiskFull` then."""

    def __init__(self, path: Path, space: FreeSpace) -> None:
        super().__init__(FileIO(path, "xb"))
        self._space = space

    def write(self, data: Any, /) -> int:
        """Write the data, and return the number of bytes."""
        written = super().write(data)
        self._space.count(written)
        time.sleep(0)  # serve other clients, because the next block of a fast client has arrived already
        return written


def read_parts(request: Request, space: FreeSpace, max_bytes: int, check: Callable[[Parts], None]) -> Parts:
    """Return the parts of the request's form. Its files are in the folder of `space`.

    Their names there count the files. Names that the client sends are never used for paths. `check` gets the
    parts so far before the content of each file is read, and that file among them. It may raise an error.

    Raises `InvalidInput` for a part that is given twice, `TooLarge`, `DiskFull` and `BadRequest`.
    """
    parts = Parts()
    try:
        events = _events(request, max_bytes)
        for part in events:
            name = part.name or ""  # type: ignore[union-attr]  # `_content` has read the data
            if name in parts.texts or name in parts.files:
                raise InvalidInput(name, "is given more than once")
            if isinstance(part, Field):
                parts.texts[name] = _text(part, events)
                continue
            parts.filenames[name] = str(part.filename or "")  # type: ignore[union-attr]  # as above
            parts.files[name] = space.folder / f"part{len(parts.files) + 1}"
            with PartFile(parts.files[name], space) as file:
                check(parts)
                for data in _content(events):
                    file.write(data)
    except RequestEntityTooLarge:
        limits = f"{max_bytes} bytes, {MAX_PARTS} parts and {MAX_FIELD_BYTES} bytes of text in a part"
        raise TooLarge("file", f"the upload may have at most {limits}") from None
    except ValueError as error:
        raise BadRequest(f"The multipart body cannot be parsed: {error}.") from None
    return parts


def _events(request: Request, max_bytes: int) -> Events:
    """Yield the heads of the parts, each followed by its data. Raises ValueError if the body is malformed."""
    stream = get_input_stream(request.environ, max_content_length=max_bytes)
    boundary = request.mimetype_params.get("boundary", "").encode("ascii")
    if not boundary:
        raise ValueError("Missing boundary")
    decoder = MultipartDecoder(boundary, MAX_FIELD_BYTES, max_parts=MAX_PARTS)
    while not isinstance(event := decoder.next_event(), Epilogue):
        if isinstance(event, NeedData):
            decoder.receive_data(stream.read(BLOCK_BYTES) or None)
        elif isinstance(event, Field | File | Data):
            yield event


def _content(events: Events) -> Iterator[bytes]:
    """Yield the data of the part whose head was the last event."""
    for event in events:
        if isinstance(event, Data):
            yield event.data
            if not event.more_data:
                return


def _text(part: Field, events: Events) -> str:
    content = bytearray()
    for data in _content(events):
        content += data
        if len(content) > MAX_FIELD_BYTES:
            raise RequestEntityTooLarge
    return content.decode(MultiPartParser().get_part_charset(part.headers), "replace")
