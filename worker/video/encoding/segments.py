"""The finished parts of a video that an attempt leaves for the next one, in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from worker.jobs.media.durable import publish

_NAME = re.compile(r"(\d+)-(\d+)\.[0-9a-f]+\.nut")
_COMPLETE = ".complete"


@dataclass(frozen=True, slots=True)
class Segment:
    """The clip's frames from `first` up to, not including, `end`, encoded in the file `path`."""

    first: int
    end: int
    path: Path


class SegmentFolder:
    """The segments of one clip, all made in one way: with other settings they need another folder.

    Several attempts may write here at once, one of them having lost its job without knowing: no two files
    ever have the same name, and what has been published is neither changed nor deleted.
    """

    def __init__(self, path: Path, publish: Callable[[Path, Path], None] = publish) -> None:
        """Make the folder if there is none. Raises OSError.

        `publish` lets a finished file appear under its name, for the next attempt too.
        """
        self._path = path
        self._publish = publish
        path.mkdir(parents=True, exist_ok=True)

    def partial(self) -> Path:
        """The path for a new file that is not finished yet, and that no other attempt looks at."""
        return self._path / f"{uuid4().hex}.partial"

    def add(self, partial: Path, first: int, end: int) -> None:
        """Publish the file as a segment. Raises OSError."""
        self._publish(partial, self._path / f"{first:08}-{end:08}.{uuid4().hex}.nut")

    def complete(self, frames: int) -> None:
        """Note that the clip ends with its segments: it has so many frames. Raises OSError."""
        partial = self.partial()
        partial.touch()
        self._publish(partial, self._path / f"{frames:08}{_COMPLETE}")

    def is_complete(self, frames: int) -> bool:
        """Whether an attempt has seen that the clip has so many frames and no more."""
        return (self._path / f"{frames:08}{_COMPLETE}").exists()

    def durable(self, limit: int | None = None) -> tuple[Segment, ...]:
        """The longest row of segments without a gap from the first frame on, and not past frame `limit`."""
        rows: dict[int, tuple[Segment, ...]] = {0: ()}
        for segment in sorted(self._segments(), key=lambda segment: segment.first):
            if segment.first in rows and (limit is None or segment.end <= limit):
                rows.setdefault(segment.end, (*rows[segment.first], segment))
        return rows[max(rows)]

    def _segments(self) -> list[Segment]:
        found = ((_NAME.fullmatch(path.name), path) for path in self._path.iterdir())
        return [Segment(int(name[1]), int(name[2]), path) for name, path in found if name]
