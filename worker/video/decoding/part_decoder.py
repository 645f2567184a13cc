"""Decodes parts of a clip, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from worker.jobs.limits import Limits
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.header import ClipEnd, ClipHeader
from worker.video.decoding.indexed_decoder import IndexedDecoder, NotIndexed
from worker.video.decoding.options import ReadOptions

__all__ = ["PartDecoder"]


class PartDecoder:
    """Decoder of the frames of a clip, part by part. It decodes the first frame at once.

    If the clip has an index, a part is decoded from the access point before it on. Each frame is compared
    with the index. As soon as they differ, or a frame is damaged, the clip counts as one without an index.
    Parts of such clips are decoded from the first frame on (the plain way), which is always right.

    All methods raise `BadVideo` as `ClipDecoder` does.
    """

    header: ClipHeader
    #: The facts about the clip's end if the last part reached it, or else None.
    end: ClipEnd | None = None

    def __init__(self, path: Path, limits: Limits, options: ReadOptions) -> None:
        self._source = path, limits, options
        self._progressive = options.deinterlace
        self._indexed: IndexedDecoder | None = None
        self._decode_from_start()
        self.header = self._plain.header
        try:
            self._indexed = IndexedDecoder(path, limits, progressive=self._progressive)
            self._compare()
        except NotIndexed:
            self._forget_index()
        else:
            self.header = replace(self.header, frames=len(self._indexed.index.times), seekable=True)

    @property
    def seekable(self) -> bool:
        """Whether the clip has an index, and no frame so far has differed from it."""
        return self._indexed is not None

    def part(self, first: int, until: int | None, *, seek: bool = True) -> Iterator[VideoFrame]:
        """Yield the frames from `first` to before `until`, or to the clip's end if this is None.

        Without `seek`, the clip counts as one without an index from now on.
        """
        if not seek:
            self._forget_index()
        point = self._indexed.index.before(first) if self._indexed else None
        if self._indexed and point and (self.end or not point.number <= self._position <= first):
            self._plain.close()
            self._begin(self._indexed, point.number, self._indexed.frames(point))
        elif self.end or first < self._position:
            self._decode_from_start()
        while self._next and (until is None or self._position < until):
            if self._position >= first:
                yield self._next
            self._advance()

    def pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the frame's pixels as `ClipDecoder.pixels` does."""
        return self._plain.pixels(frame)

    def _decode_from_start(self) -> None:
        self._plain = ClipDecoder(*self._source)
        self._begin(self._plain, 0, self._plain.frames)

    def _begin(
        self, decoder: ClipDecoder | IndexedDecoder, number: int, frames: Iterator[VideoFrame]
    ) -> None:
        """Take the frames of a decoder from now on, the first of which has this number."""
        self._decoder, self._position, self._frames, self.end = decoder, number - 1, frames, None
        self._advance()

    def _advance(self) -> None:
        """Decode the next frame. Behind a part's last frame, it shows whether the clip has ended."""
        self._position += 1
        try:
            self._next = next(self._frames, None)
            self._compare()
        except NotIndexed:
            self._forget_index()
        if self._next is None:
            self.end = self._decoder.end
            self._plain.close()

    def _compare(self) -> None:
        """Raise `NotIndexed` if the frame found in the plain way is not what the index says, or damaged."""
        if self._indexed is None or self._decoder is self._indexed:
            return
        expected = [*self._indexed.index.times[self._position : self._position + 1]]
        found = [self._next.pts] if self._next else []
        if found != expected or self._plain.concealed or (self._progressive and not self._plain.progressive):
            raise NotIndexed

    def _forget_index(self) -> None:
        """Treat the clip as one without an index, and go on from the same frame in the plain way."""
        indexed, self._indexed = self._indexed, None
        if indexed is None:
            return
        indexed.close()
        if self._decoder is indexed:
            position = self._position
            self._decode_from_start()
            while self._next and self._position < position:
                self._advance()
