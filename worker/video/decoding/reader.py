"""Reads a clip into reused batch buffers in a thread of its own, so that decoding overlaps compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from worker.jobs.limits import DEFAULTS, Limits
from worker.video.decoding.decoder import ClipDecoder, ClipHeader
from worker.video.decoding.orientation import Orientation

Frames = NDArray[np.uint8]

#: one that is computed on, one that is ready, one that is being decoded into
BUFFERS = 3


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """`frames` (B,H,W,3) uint8 RGB of which the first `valid` are real, with their timestamps in ticks.

    The buffer is used again: it holds these frames only until the next batch is asked for.
    """

    index: int
    frames: Frames
    valid: int
    pts: tuple[int, ...]


class ClipReader:
    """The batches of one clip, to be iterated over once; leaving it as a context ends its thread.

    The first `skip` frames are decoded, for what comes after them, but their batches hold no pictures. The
    constructor and the iteration raise BadVideo as ClipDecoder does, the latter in place of the batch
    that could not be filled. `allocate` makes the buffers, given their shape (in pinned memory, say).
    """

    header: ClipHeader

    def __init__(
        self,
        path: Path,
        batch_size: int,
        *,
        skip: int = 0,
        limits: Limits = DEFAULTS,
        allocate: Callable[[tuple[int, ...]], Frames] = lambda shape: np.empty(shape, np.uint8),
    ) -> None:
        self._decoder = ClipDecoder(path, limits)
        self.header = self._decoder.header
        self._shape = (batch_size, self.header.height, self.header.width, 3)
        self._skip = skip
        self._allocate = allocate
        self._to_rgb = VideoReformatter()
        self._closed = Event()
        self._thread = ThreadPoolExecutor(1, "clip-reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding, wait for the thread (for a frame's time) and close the file."""
        self._closed.set()
        self._thread.shutdown(cancel_futures=True)
        self._decoder.close()

    def __iter__(self) -> Iterator[FrameBatch]:
        fills: deque[Future[tuple[Frames, tuple[int, ...]]]] = deque(
            self._thread.submit(self._fill, self._allocate(self._shape)) for _ in range(BUFFERS)
        )
        for index in count():
            frames, pts = fills.popleft().result()
            if pts:
                yield FrameBatch(index, frames, len(pts), pts)
            if len(pts) < len(frames):
                return
            fills.append(self._thread.submit(self._fill, frames))

    def _fill(self, buffer: Frames) -> tuple[Frames, tuple[int, ...]]:
        """Decode the next frames into `buffer`; there are as many as timestamps."""
        pts: list[int] = []
        for out, frame in zip(buffer, self._decoder.frames, strict=False):
            if self._skip:
                self._skip -= 1
            else:
                _copy(self._to_rgb.reformat(frame, format="rgb24"), out, self.header.orientation)
            pts.append(frame.pts or 0)
            if self._closed.is_set():
                break
        return buffer, tuple(pts)


def _copy(rgb: VideoFrame, out: Frames, orientation: Orientation) -> None:
    """Copy an rgb24 frame into `out` (H,W,3), upright."""
    plane = rgb.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(rgb.height, plane.line_size)
    out[:] = orientation.upright(rows[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3))
