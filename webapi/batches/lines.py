"""The requests of a batch: the lines of its input file."""

import tempfile
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from werkzeug.exceptions import BadRequest

from webapi.http.bodies import MAX_CHAT_BYTES, parse_json
from worker.jobs.errors import InvalidInput
from worker.jobs.media.stored_file import StoredFile

__all__ = ["InputFile", "LineError", "Request", "open_input"]

#: The most faults of an input file that its batch names.
MAX_ERRORS = 20
#: Characters of a `custom_id`.
MAX_ID = 512


@dataclass(frozen=True, slots=True)
class Request:
    """One request: the client's name for it, and its body."""

    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LineError:
    """A fault of an input file. `line` counts from 1; None means the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(slots=True)
class InputFile:
    """An input file that is open, and where its requests start. Empty lines are skipped."""

    file: IO[bytes]
    starts: "array[int]" = field(default_factory=lambda: array("Q"))
    errors: list[LineError] = field(default_factory=list)

    def request(self, number: int) -> Request:
        """Return the request of this number, from 0."""
        self.file.seek(self.starts[number])
        fields = parse_json(self.file.readline(MAX_CHAT_BYTES + 1))
        return Request(fields["custom_id"], fields["body"])

    def scan(self, endpoint: str, most: int) -> None:
        """Find the requests, and check that each is one of the endpoint, with a name of its own.

        `errors` has the first faults then.
        """
        seen: set[str] = set()
        self.file.seek(0)
        number = start = 0
        while (line := self.file.readline(MAX_CHAT_BYTES + 1)) and len(self.errors) < MAX_ERRORS:
            number, at, start = number + 1, start, start + len(line)
            if not line.strip():
                continue
            self.starts.append(at)
            if len(self.starts) > most:
                self.errors = [LineError("too_many_requests", f"a batch may have {most} requests")]
                return
            if len(line) > MAX_CHAT_BYTES:
                self.errors.append(LineError("line_too_long", f"may have {MAX_CHAT_BYTES} bytes", number))
                return
            if fault := _fault(line, endpoint, seen):
                self.errors.append(replace(fault, line=number))
        if not self.starts:
            self.errors.append(LineError("empty_file", "the input file has no requests"))


def _fault(line: bytes, endpoint: str, seen: set[str]) -> LineError | None:
    """Return what is wrong with the request in the line, if anything is."""
    try:
        fields = parse_json(line)
    except (ValueError, InvalidInput, BadRequest) as error:
        return LineError("invalid_json_line", f"the line is not a valid JSON object: {error}")
    if not isinstance(fields, dict):
        return LineError("invalid_json_line", "the line is not a JSON object")
    custom_id = fields.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID:
        return LineError("invalid_custom_id", f"must be 1 to {MAX_ID} characters", param="custom_id")
    if custom_id in seen:
        return LineError("duplicate_custom_id", "another line has this custom_id", param="custom_id")
    seen.add(custom_id)
    if fields.get("method") != "POST":
        return LineError("invalid_method", "must be POST", param="method")
    if fields.get("url") != endpoint:
        return LineError("mismatched_url", f"must be the endpoint of the batch, {endpoint}", param="url")
    if not isinstance(fields.get("body"), dict):
        return LineError("invalid_body", "must be a JSON object", param="body")
    return None


def open_input(content: Path | StoredFile, folder: Path) -> IO[bytes]:
    """Open the content of a file. That of a remote store is copied to a file without a name in `folder`."""
    if isinstance(content, Path):
        return content.open("rb")
    folder.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # the caller closes it
    for block in content.blocks():
        file.write(block)
    return file
