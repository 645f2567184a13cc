"""Reads segments of a clip ahead: while the batches of one are used, the next one is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from worker.video.decoding.reader import ClipReader, FrameBatch, Frames, Window
from worker.video.segment_run import IndexDiffers
from worker.video.share_plan import ClipPlan

__all__ = ["Part", "ReadAhead"]


@dataclass(frozen=True, slots=True)
class Part:
    """The batches of segment `number`, which a reader yields once."""

    number: int
    reader: ClipReader
    batches: Iterator[FrameBatch]


@dataclass(slots=True)
class _Stream:
    """A reader that reads from some segment on. `following` is the segment that it yields next.

    An endless stream goes on with the segments that follow. Another one ends with its segment.
    """

    reader: ClipReader
    batches: Iterator[FrameBatch]
    following: int
    endless: bool


class ReadAhead:
    """Reader of segments, each of which is begun while the one before it is used.

    Segments that follow each other are read in one go. For others, two readers take turns. `open_reader`
    opens the second one when it is needed first.
    """

    def __init__(
        self,
        plan: ClipPlan,
        window: Window,
        reader: ClipReader,
        open_reader: Callable[[], ClipReader],
        allocate: Callable[[tuple[int, ...]], Frames],
    ) -> None:
        self._plan = plan
        self._window = window
        self._header = reader.header
        self._open_reader = open_reader
        self._allocate = allocate
        self._idle = [reader]
        self._streams: list[_Stream] = []

    def begin(self, number: int) -> Part:
        """Begin to decode a segment. Only the part before it may still be in use."""
        stream = self._streams[-1] if self._streams else None
        follows = stream is None or stream.following == number
        if stream is None or not (follows and stream.endless):
            stream = self._open(number, endless=follows)
        stream.following = number + 1
        if self._plan.is_last(number) or not stream.endless:
            return Part(number, stream.reader, stream.batches)
        return Part(number, stream.reader, islice(stream.batches, self._plan.size // self._window.size))

    def close(self) -> None:
        """Stop to read, so that another can use the first reader."""
        while self._streams:
            self._streams.pop().reader.stop()

    def _open(self, number: int, *, endless: bool) -> _Stream:
        if len(self._streams) == 2:
            self._idle.append(self._close(self._streams.pop(0)))
        reader = self._idle.pop() if self._idle else self._open_reader()
        if reader.header != self._header:  # it has another decoder
            raise IndexDiffers
        first, until = self._plan.span(number)
        end = None if endless or self._plan.is_last(number) else until
        batches = reader.batches(self._window, first=first, until=end, allocate=self._allocate)
        stream = _Stream(reader, batches, number, endless)
        self._streams.append(stream)
        return stream

    def _close(self, stream: _Stream) -> ClipReader:
        """Stop the stream, all parts of which have been used, and return its reader."""
        if stream.endless and stream.following < self._plan.count:
            stream.reader.stop()
        return stream.reader
