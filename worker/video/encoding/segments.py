"""The folder of finished segments that one attempt leaves for the next."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from worker.jobs.media.durable import publish
from worker.video.decoding.header import ClipEnd

__all__ = ["Segment", "SegmentFolder", "no_facts"]

_NAME = re.compile(r"(\d+)-(\d+)\.[0-9a-f]+\.(nut|jsonl)")
_COMPLETE = ".complete"
_WITHOUT_INDEX = "without-index"
STATE = ".safetensors"
FACTS = ".json"


@dataclass(frozen=True, slots=True)
class Segment:
    """The results of the frames `first` to `end` - 1 of a clip, in the file `path`."""

    first: int
    end: int
    path: Path

    @property
    def state(self) -> Path:
        """The file of the model's state after the segment. Only some models have one."""
        return self.path.with_suffix(STATE)

    @property
    def facts(self) -> Path:
        """The file of the facts about a segment that was published before its batches were reported."""
        return self.path.with_suffix(FACTS)


def no_facts(first: int, end: int) -> None:
    """Return no facts about the segment of the frames `first` to `end` - 1."""


class SegmentFolder:
    """The segments of one clip that were made with the same model, options, encoder and batch size.

    Several attempts may write here at once, because an attempt may have lost its job without knowing it.
    Therefore each file has a unique name, and a published file is never changed or deleted.
    """

    def __init__(self, path: Path, publish: Callable[[Path, Path], None] = publish) -> None:
        """Create the folder if it does not exist. Raises OSError.

        `publish` moves a finished file to its final name and makes it available to the next attempt.
        """
        self._path = path
        self._publish = publish
        path.mkdir(parents=True, exist_ok=True)
        #: Returns the text of the facts about a segment before it is published, or None if there is no need.
        self.facts: Callable[[int, int], str | None] = no_facts
        #: Called after a segment is published, with its first frame and the one after its last frame.
        self.on_added: Callable[[int, int], None] = lambda first, end: None

    @property
    def name(self) -> str:
        """The name of the folder, which only segments of the same model, options and so on have."""
        return self._path.name

    def partial(self) -> Path:
        """Return the path for a new, unfinished file. Other attempts ignore such files."""
        return self._path / f"{uuid4().hex}.partial"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield the path for a file of this attempt only. The file is removed when the block ends."""
        path = self.partial()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def add(self, partial: Path, first: int, end: int, suffix: str, state: Path | None = None) -> None:
        """Publish the file as the segment of frames `first` to `end` - 1. Raises OSError.

        `state` is the unfinished file of the model's state. It and the facts are published first, so no
        segment lacks them.
        """
        segment = Segment(first, end, self._path / f"{first:08}-{end:08}.{uuid4().hex}{suffix}")
        if state:
            self._publish(state, segment.state)
        if facts := self.facts(first, end):
            self._write(facts, segment.facts)
        self._publish(partial, segment.path)
        self.on_added(first, end)

    def complete(self, frames: int, end: ClipEnd) -> None:
        """Record that the clip has exactly `frames` frames, so no segment follows, and its end.

        Raises OSError.
        """
        self._write(json.dumps(asdict(end)), self._path / f"{frames:08}{_COMPLETE}")

    def _write(self, text: str, path: Path) -> None:
        partial = self.partial()
        partial.write_text(text, "utf-8")
        self._publish(partial, path)

    def end(self, frames: int) -> ClipEnd | None:
        """Return the recorded end of a clip that has exactly `frames` frames, or None if none is recorded.

        Older versions of Stoker recorded an empty text. Raises OSError.
        """
        path = self._path / f"{frames:08}{_COMPLETE}"
        text = path.read_text("utf-8") if path.exists() else ""
        return ClipEnd(**json.loads(text)) if text else None

    @property
    def without_index(self) -> bool:
        """Whether frames of the clip differ from its index, so that it does not tell their numbers."""
        return (self._path / _WITHOUT_INDEX).exists()

    def ignore_index(self) -> None:
        """Record that frames of the clip differ from its index. Raises OSError.

        No segment with such a frame, or one behind it, may be added before.
        """
        partial = self.partial()
        partial.touch()
        self._publish(partial, self._path / _WITHOUT_INDEX)

    def durable(self, limit: int | None = None, *, with_state: bool = False) -> tuple[Segment, ...]:
        """Return the longest sequence of segments that starts at frame 0 and has no gap.

        With a `limit`, no segment ends after that frame, unless there are facts about it. `with_state`
        ignores segments without a state. If the clip's index is ignored, so are segments with facts: their
        workers have found their first frame by the index.
        """
        without_index = self.without_index
        found = [
            segment
            for segment in self._segments()
            if (not with_state or segment.state.exists()) and not (without_index and segment.facts.exists())
        ]
        sequences: dict[int, tuple[Segment, ...]] = {0: ()}  # by the frame at which they end
        for segment in sorted(found, key=lambda segment: segment.first):
            if segment.first in sequences and (
                limit is None or segment.end <= limit or segment.facts.exists()
            ):
                sequences.setdefault(segment.end, (*sequences[segment.first], segment))
        return sequences[max(sequences)]

    def with_facts(self) -> list[Segment]:
        """Return the segments about which there are facts, in no order."""
        return [segment for segment in self._segments() if segment.facts.exists()]

    def _segments(self) -> list[Segment]:
        found = ((_NAME.fullmatch(path.name), path) for path in self._path.iterdir())
        return [Segment(int(name[1]), int(name[2]), path) for name, path in found if name]
