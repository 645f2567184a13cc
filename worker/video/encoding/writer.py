"""Writes the results of a clip segment by segment in its own thread, so that this overlaps with inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from worker.video.decoding.header import ClipEnd
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.write_errors import map_write_errors
from worker.video.stages import Stages

__all__ = ["SegmentEncoder", "SegmentWriter"]


class SegmentEncoder(Protocol):
    """Encoder of one segment's results into a file. `suffix` is that of the segment's name.

    All methods but `close` may raise OSError or `av.FFmpegError`.
    """

    suffix: str

    def encode(self, results: Any, pts: Sequence[int]) -> None:
        """Encode the results of one batch, which belong to the times `pts`."""

    def finish(self) -> None:
        """Complete the file."""

    def close(self) -> None:
        """Close the file without completing it. Does nothing after `finish`."""


class SegmentWriter:
    """Writer of the results from frame number `first` on. It publishes a segment every `batches` batches.

    `open_encoder` starts the file of a segment. `stages` gets the seconds of the encoder. The writer is a
    context manager. Leaving it deletes the segment that is not published. An error in the encoder's thread
    is raised by the next `write` or by `finish`, as `DiskFull`, `EngineFailed` or MemoryError. After an error
    the writer cannot be used any more.
    """

    def __init__(
        self,
        folder: SegmentFolder,
        open_encoder: Callable[[Path], SegmentEncoder],
        *,
        first: int,
        batches: int,
        stages: Stages | None = None,
    ) -> None:
        self._folder = folder
        self._open_encoder = open_encoder
        self._first = self._end = first
        self._limit = batches
        self._stages = stages or Stages()
        self._batches = 0
        self._partial: Path | None = None
        self._encoder: SegmentEncoder | None = None
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

    @property
    def segment_ends(self) -> bool:
        """Whether the next batch is the last one of its segment."""
        return self._batches + 1 == self._limit

    def write(
        self,
        results: Any,
        pts: Sequence[int],
        frames: int,
        state: Callable[[Path], None] | None = None,
    ) -> None:
        """Start to encode the results of a batch of `frames` frames, which belong to the times `pts`.

        The caller must not change the results until they are encoded. If the batch ends a segment, `state`
        writes the model's state after it to a path. The call waits for the batch before it: when it returns,
        only this batch is still to be encoded.
        """
        self._wait()
        encoder = self._encoder or self._begin_segment()
        self._batches += 1
        self._end += frames
        publish = self._batches == self._limit
        self._running = self._thread.submit(self._encode, encoder, results, pts, publish, state)
        if publish:
            self._batches = 0

    def finish(self, end: ClipEnd) -> None:
        """Publish the last segment, and record that the clip ends with it, and how."""
        self._wait()
        self._running = self._thread.submit(self._complete, end)
        self._wait()

    def _wait(self) -> None:
        if self._running:
            self._running.result()

    def _begin_segment(self) -> SegmentEncoder:
        """Open the encoder of the next segment.

        This runs in the caller's thread. libav holds the GIL meanwhile, and in the encoder's thread it would
        delay the next batch for the GPU.
        """
        with map_write_errors(), self._stages.busy("encode"):
            self._partial = self._folder.partial()
            self._encoder = self._open_encoder(self._partial)
        return self._encoder

    def _encode(
        self,
        encoder: SegmentEncoder,
        results: Any,
        pts: Sequence[int],
        publish: bool,
        state: Callable[[Path], None] | None,
    ) -> None:
        with map_write_errors():
            with self._stages.busy("encode"):
                encoder.encode(results, pts)
            if publish:
                self._publish(state)

    def _publish(self, state: Callable[[Path], None] | None = None) -> None:
        """Finish the current segment and publish it, so that another attempt can continue after it."""
        if self._encoder is None or self._partial is None:
            return
        with self._stages.busy("encode"):
            self._encoder.finish()
        state_file = self._folder.partial() if state else None
        if state and state_file:
            state(state_file)
        self._folder.add(self._partial, self._first, self._end, self._encoder.suffix, state_file)
        self._first, self._encoder, self._partial = self._end, None, None

    def _complete(self, end: ClipEnd) -> None:
        with map_write_errors():
            self._publish()
            self._folder.complete(self._first, end)
