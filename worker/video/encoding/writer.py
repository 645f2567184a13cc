"""Encodes a clip segment by segment in a thread of its own, so that encoding overlaps compute."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.video.decoding.decoder import ClipHeader
from worker.video.encoding.encoder import Encoder
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.write_errors import writing


class SegmentWriter:
    """Writes the clip's frames from number `first` on, and publishes them every `batches` batches.

    A context manager: what has not been published by its end is deleted. What fails in the encoder's thread
    comes out of the next `write` or of `finish`, as DiskFull, EngineFailed or MemoryError; the writer is of
    no more use then.
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
        """Hand over a batch (N,H,W,3) RGB, contiguous and to be left alone from now on; times in ticks.

        Waits for the batch before it: when this returns, only the one handed over is still to be encoded.
        """
        self._wait()
        encoder = self._encoder or self._begin()
        self._running = self._thread.submit(self._encode, encoder, frames, pts)

    def finish(self) -> None:
        """Publish the last segment and that it is the last."""
        self._wait()
        self._running = self._thread.submit(self._complete)
        self._wait()

    def _wait(self) -> None:
        if self._running:
            self._running.result()

    def _begin(self) -> Encoder:
        """Not in the encoder's thread: libav has the interpreter, and would keep a batch from the GPU."""
        with writing():
            self._partial = self._folder.partial()
            self._encoder = Encoder(self._partial, self._clip)
        return self._encoder

    def _encode(self, encoder: Encoder, frames: NDArray[np.uint8], pts: Sequence[int]) -> None:
        with writing():
            encoder.encode(frames, pts)
            self._batches += 1
            if self._batches == self._limit:
                self._publish()

    def _publish(self) -> None:
        """End the segment: after this it is another attempt's to go on from."""
        if self._encoder is None or self._partial is None:
            return
        self._encoder.finish()
        end = self._first + self._encoder.frames
        self._folder.add(self._partial, self._first, end)
        self._first, self._batches, self._encoder, self._partial = end, 0, None, None

    def _complete(self) -> None:
        with writing():
            self._publish()
            self._folder.complete(self._first)
