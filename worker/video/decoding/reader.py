"""Reads a clip from its sandbox into reused batch buffers, so that decoding overlaps with inference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.video.decoding.header import ClipEnd, ClipHeader
from worker.video.decoding.options import READ_DEFAULTS, ReadOptions
from worker.video.sandbox.sandbox import Sandbox

__all__ = ["BUFFERS", "ClipReader", "FrameBatch", "Frames"]

Frames = NDArray[np.uint8]
#: A buffer that is being filled, and the timestamps of the frames in it.
Fill = Future[tuple[Frames, tuple[int, ...]]]

#: Three buffers: the model reads one, one is ready, and the decoder fills one.
BUFFERS = 3


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """A batch of consecutive frames of a clip.

    `frames` is (B,H,W,3) uint8 RGB. Its first `valid` frames are real, and `pts` holds their timestamps in
    ticks. The reader reuses the buffer: it holds these frames only until the next batch is requested.
    """

    index: int
    frames: Frames
    valid: int
    pts: tuple[int, ...]


class ClipReader:
    """Iterable over the batches of one clip, usable once. The sandbox begins to decode when `iter` is called.

    The first `skip` frames get no pictures: their batches have timestamps and undefined pictures. `allocate`
    receives a shape and returns a uint8 buffer, for example in pinned memory.

    The constructor and the iteration raise what `Sandbox.call` raises, above all `BadVideo` as `ClipDecoder`
    does. The iteration raises it in place of the batch that could not be filled.
    """

    header: ClipHeader
    #: It is there after the iteration.
    end: ClipEnd

    def __init__(
        self,
        sandbox: Sandbox,
        path: Path,
        batch_size: int,
        *,
        options: ReadOptions = READ_DEFAULTS,
        skip: int = 0,
        allocate: Callable[[tuple[int, ...]], Frames] = lambda shape: np.empty(shape, np.uint8),
    ) -> None:
        self.sandbox = sandbox
        self.header = ClipHeader.from_json(sandbox.call("open", path=path, options=asdict(options)))
        self._shape = (batch_size, self.header.height, self.header.width, 3)
        self._skip = skip
        self._allocate = allocate
        self._ended = False

    def __iter__(self) -> Iterator[FrameBatch]:
        """Start to read, and return the batches."""
        self.sandbox.submit(lambda: self.sandbox.send("frames", skip=self._skip))
        buffers = [self._allocate(self._shape) for _ in range(BUFFERS)]
        return self._batches(deque(self.sandbox.submit(self._fill, buffer) for buffer in buffers))

    def _batches(self, fills: deque[Fill]) -> Iterator[FrameBatch]:
        for index in count():
            frames, pts = self.sandbox.wait(fills.popleft())
            if pts:
                yield FrameBatch(index, frames, len(pts), pts)
            if len(pts) < len(frames):
                return
            fills.append(self.sandbox.submit(self._fill, frames))

    def _fill(self, buffer: Frames) -> tuple[Frames, tuple[int, ...]]:
        """Receive the next frames into `buffer`. Return it with one timestamp for each frame in it."""
        pts: list[int] = []
        for out in buffer:
            if self._ended:
                break
            answer = self.sandbox.receive()
            if "end" in answer:
                self._ended, self.end = True, ClipEnd(**answer["end"])
                break
            if self._skip:
                self._skip -= 1
            else:
                self.sandbox.receive_pixels(out)
            pts.append(answer["pts"])
        return buffer, tuple(pts)
