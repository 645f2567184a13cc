"""Reads a clip into reused batch buffers in its own thread, so that decoding overlaps with inference."""

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
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.header import ClipHeader
from worker.video.decoding.orientation import Orientation

__all__ = ["BUFFERS", "ClipReader", "FrameBatch", "Frames"]

Frames = NDArray[np.uint8]

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
    """Iterable over the batches of one clip, usable once.

    It is a context manager. Leaving it ends its thread and closes the file.

    The reader decodes the first `skip` frames, because later frames depend on them, but does not convert
    them: their batches have timestamps and undefined pictures. `allocate` receives a shape and returns a
    uint8 buffer, for example in pinned memory.

    The constructor and the iteration raise `BadVideo` as `ClipDecoder` does. The iteration raises it in place
    of the batch that could not be filled.
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
        """Stop decoding, wait for the thread (at most for one frame) and close the file."""
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
        """Decode the next frames into `buffer`. Return it with one timestamp for each frame in it."""
        pts: list[int] = []
        for out, frame in zip(buffer, self._decoder.frames, strict=False):
            if self._skip:
                self._skip -= 1
            else:
                _copy_upright(self._to_rgb.reformat(frame, format="rgb24"), out, self.header.orientation)
            pts.append(frame.pts or 0)
            if self._closed.is_set():
                break
        return buffer, tuple(pts)


def _copy_upright(rgb: VideoFrame, out: Frames, orientation: Orientation) -> None:
    """Copy an rgb24 frame into `out` (H,W,3), upright."""
    plane = rgb.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(rgb.height, plane.line_size)
    out[:] = orientation.upright(rows[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3))
