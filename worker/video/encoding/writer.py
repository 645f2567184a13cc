"""Encodes a clip segment by segment in its own thread, so that encoding overlaps with inference."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.video.decoding.header import ClipEnd, ClipHeader
from worker.video.encoding.encoder import Encoder
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.write_errors import map_write_errors

__all__ = ["SegmentWriter"]


class SegmentWriter:
    """Writer of the clip's frames from number `first` on. It publishes a segment every `batches` batches.

    It is a context manager. Leaving it deletes the segment that is not yet published. An error in the
    encoder's thread is raised by the next `write` or by `finish`, as `DiskFull`, `EngineFailed` or
    MemoryError. After an error the writer cannot be used any more.
    """

    def __init__(self, folder: SegmentFolder, clip: ClipHeader, *, first: int, batches: int) -> None:
        self._folder = folder
        self._clip = clip
        self._first = first
        self._limit = batches
        self._batches = 0
        self._partial: Path | None = None
        self._encoder: Encoder | None = None
        self._running: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "clip-writer")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if self._encoder:
            self._encoder.close()
        if self._partial:
            self._partial.unlink(missing_ok=True)

    def write(self, frames: NDArray[np.uint8], pts: Sequence[int]) -> None:
        """Start to encode a batch (N,H,W,3) uint8 RGB, displayed at `pts` in ticks of the clip.

        The array must be contiguous, and the caller must not change it until the batch is encoded. The call
        waits for the batch before it: when it returns, only this batch is still to be encoded.
        """
        self._wait()
        encoder = self._encoder or self._begin_segment()
        self._running = self._thread.submit(self._encode, encoder, frames, pts)

    def finish(self, end: ClipEnd) -> None:
        """Publish the last segment, and record that the clip ends with it, and how."""
        self._wait()
        self._running = self._thread.submit(self._complete, end)
        self._wait()

    def _wait(self) -> None:
        if self._running:
            self._running.result()

    def _begin_segment(self) -> Encoder:
        """Open the encoder of the next segment.

        This runs in the caller's thread. libav holds the GIL meanwhile, and in the encoder's thread it would
        delay the next batch for the GPU.
        """
        with map_write_errors():
            self._partial = self._folder.partial()
            self._encoder = Encoder(self._partial, self._clip)
        return self._encoder

    def _encode(self, encoder: Encoder, frames: NDArray[np.uint8], pts: Sequence[int]) -> None:
        with map_write_errors():
            encoder.encode(frames, pts)
            self._batches += 1
            if self._batches == self._limit:
                self._publish()

    def _publish(self) -> None:
        """Finish the current segment and publish it, so that another attempt can continue after it."""
        if self._encoder is None or self._partial is None:
            return
        self._encoder.finish()
        end = self._first + self._encoder.frames
        self._folder.add(self._partial, self._first, end)
        self._first, self._batches, self._encoder, self._partial = end, 0, None, None

    def _complete(self, end: ClipEnd) -> None:
        with map_write_errors():
            self._publish()
            self._folder.complete(self._first, end)
