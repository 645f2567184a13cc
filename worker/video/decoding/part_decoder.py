"""Decodes parts of a clip, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from worker.jobs.limits import Limits
from worker.video.decoding.clip_index import ClipIndex
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.header import ClipEnd, ClipHeader
from worker.video.decoding.indexed_decoder import IndexedDecoder, NotIndexed
from worker.video.decoding.options import ReadOptions

__all__ = ["OpenHardware", "PartDecoder"]

OpenHardware = Callable[[Path, Limits, IndexedDecoder], IndexedDecoder]


class PartDecoder:
    """Decoder of the frames of a clip, part by part. It decodes the first frame at once.

    If the clip has an index, a part is decoded from the access point before it on. Each frame is compared
    with the index. As soon as they differ, or a frame is damaged, the clip counts as one without an index.
    Parts of such clips are decoded from the first frame on (the plain way), which is always right.

    `hardware` opens a decoder for a clip with an index, or raises `NotIndexed`. If this decoder fails at a
    frame, the CPU decodes from this frame on.

    All methods raise `BadVideo` as `ClipDecoder` does.
    """

    header: ClipHeader
    #: The facts about the clip's end if the last part reached it, or else None.
    end: ClipEnd | None = None

    def __init__(
        self, path: Path, limits: Limits, options: ReadOptions, hardware: OpenHardware | None = None
    ) -> None:
        self._source = path, limits, options
        self._progressive = options.deinterlace
        self._indexed: IndexedDecoder | None = None
        self._hardware: IndexedDecoder | None = None
        self._decode_from_start()
        self.header = self._plain.header
        try:
            self._indexed = IndexedDecoder(path, limits, progressive=self._progressive)
            self._compare()
        except NotIndexed:
            self._forget_index()
        else:
            with suppress(NotIndexed):
                self._hardware = hardware(path, limits, self._indexed) if hardware else None
            frames = len(self._indexed.index.times)
            self.header = replace(self.header, frames=frames, seekable=True, decoder=self.decoder)

    @property
    def seekable(self) -> bool:
        """Whether the clip has an index, and no frame so far has differed from it."""
        return self._indexed is not None

    @property
    def decoder(self) -> str:
        """The name of the decoder of the next part."""
        return (self._hardware or IndexedDecoder).name

    def part(self, first: int, until: int | None, *, seek: bool = True) -> Iterator[VideoFrame]:
        """Yield the frames from `first` to before `until`, or to the clip's end if this is None.

        Without `seek`, the clip counts as one without an index from now on.
        """
        if not seek:
            self._forget_index()
        if self._indexed and not self._is_before(first, self._indexed.index):
            self._plain.close()
            self._seek(self._indexed, first)
        elif not self._indexed and (self.end or first < self._position):
            self._decode_from_start()
        while self._next and (until is None or self._position < until):
            if self._position >= first:
                yield self._next
            self._advance()

    def pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the frame's pixels as `ClipDecoder.pixels` does."""
        return self._plain.pixels(frame)

    def _is_before(self, first: int, index: ClipIndex) -> bool:
        """Return whether the decoder is before frame `first`, with no access point between them."""
        is_slow = self._hardware and self._decoder is not self._hardware
        return not (self.end or is_slow) and index.before(first).number <= self._position <= first

    def _seek(self, indexed: IndexedDecoder, number: int) -> None:
        """Decode from the access point before frame `number` on."""
        decoder, point = self._hardware or indexed, indexed.index.before(number)
        self._begin(decoder, point.number, decoder.frames(point))

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
            self._fall_back()
        if self._next is None:
            self.end = self._decoder.end
            self._plain.close()

    def _compare(self) -> None:
        """Raise `NotIndexed` if the frame found in the plain way is not what the index says, or damaged."""
        if self._indexed is None or self._decoder is not self._plain:
            return
        expected = [*self._indexed.index.times[self._position : self._position + 1]]
        found = [self._next.pts] if self._next else []
        if found != expected or self._plain.concealed or (self._progressive and not self._plain.progressive):
            raise NotIndexed

    def _fall_back(self) -> None:
        """Go on from the same frame with the CPU, or if that was it, in the plain way."""
        hardware, self._hardware = self._hardware, None
        if hardware:
            hardware.close()
        if self._indexed and hardware and self._decoder is hardware:
            position = self._position
            self._seek(self._indexed, position)
            self._advance_to(position)
        else:
            self._forget_index()

    def _forget_index(self) -> None:
        """Treat the clip as one without an index, and go on from the same frame in the plain way."""
        for decoder in filter(None, (self._hardware, self._indexed)):
            decoder.close()
        self._hardware = self._indexed = None
        if self._decoder is not self._plain:
            position = self._position
            self._decode_from_start()
            self._advance_to(position)

    def _advance_to(self, position: int) -> None:
        while self._next and self._position < position:
            self._advance()
