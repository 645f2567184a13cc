"""Records: facts about frames, one JSON object in a line for each frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker.jobs.errors import ModelFailed
from worker.video.decoding.header import ClipHeader

__all__ = ["RecordEncoder", "complete_records", "to_lines"]

#: The fields that are added to the model's own.
_ADDED = ("frame", "time")


def complete_records(
    records: Sequence[Mapping[str, Any]], first: int, pts: Sequence[int], clip: ClipHeader
) -> list[dict[str, Any]]:
    """Return the records with the number of their frame, from `first` on, and its time.

    The time is in seconds from the clip's first frame, rounded to microseconds. Raises `ModelFailed` if a
    record has one of these fields already.
    """
    complete = []
    for number, (record, ticks) in enumerate(zip(records, pts, strict=True), first):
        if taken := [name for name in _ADDED if name in record]:
            raise ModelFailed(f"a record of the model has the field {taken[0]}, which Stoker adds")
        time = round(float((ticks - clip.start) * clip.time_base), 6)
        complete.append({"frame": number, "time": time, **record})
    return complete


def to_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each record as JSON. Raises `ModelFailed` if it has a value that JSON lacks."""
    try:
        return [json.dumps(record, allow_nan=False, separators=(",", ":")) for record in records]
    except (TypeError, ValueError) as error:
        raise ModelFailed(f"a record of the model is not JSON: {error}") from error


class RecordEncoder:
    """Encoder of one segment of records into the file `path`, which is NDJSON (https://ndjson.org)."""

    suffix = ".jsonl"

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def encode(self, lines: Sequence[str], pts: Sequence[int]) -> None:
        """Write the lines of one batch."""
        self._file.writelines(f"{line}\n" for line in lines)

    def finish(self) -> None:
        """Complete the file."""
        self._file.close()

    def close(self) -> None:
        """Close the file without completing it. Does nothing after `finish`."""
        with suppress(OSError):
            self._file.close()
