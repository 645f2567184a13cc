"""Decodes parts of a clip, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from worker.jobs.limits import Limits
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.header import ClipEnd
from worker.video.decoding.options import ReadOptions

__all__ = ["PartDecoder"]


class PartDecoder:
    """Decoder of the frames of a clip, part by part. It decodes the first frame at once.

    All methods raise `BadVideo` as `ClipDecoder` does.
    """

    #: The facts about the clip's end if the last part reached it, or else None.
    end: ClipEnd | None

    def __init__(self, path: Path, limits: Limits, options: ReadOptions) -> None:
        self._source = path, limits, options
        self._open()
        self.header = self._decoder.header

    def part(self, first: int, until: int | None) -> Iterator[VideoFrame]:
        """Yield the frames from `first` to before `until`, or to the clip's end if this is None."""
        if first < self._position or self.end:
            self._decoder.close()
            self._open()
        while self._next and (until is None or self._position < until):
            if self._position >= first:
                yield self._next
            self._advance()

    def pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the frame's pixels as `ClipDecoder.pixels` does."""
        return self._decoder.pixels(frame)

    def _open(self) -> None:
        self._decoder = ClipDecoder(*self._source)
        self._position, self.end = -1, None
        self._advance()

    def _advance(self) -> None:
        """Decode the next frame. Behind a part's last frame, it shows whether the clip has ended."""
        self._position += 1
        self._next = next(self._decoder.frames, None)
        if self._next is None:
            self.end = self._decoder.end
            self._decoder.close()
