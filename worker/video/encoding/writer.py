"""Writes the results of a clip as segments, which are encoded at the same time and published in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from worker.video.decoding.header import ClipEnd
from worker.video.encoding.encoder_pool import EncoderPlan, EncoderPool
from worker.video.encoding.open_segment import OpenSegment, SegmentEncoder
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.steps import Steps
from worker.video.encoding.write_errors import map_write_errors
from worker.video.stages import Stages

__all__ = ["SegmentWriter"]


class SegmentWriter:
    """Writer of the results from frame number `first` on. A segment has the results of `batches` batches.

    - `open_encoder`: starts the file of a segment, a path, with a number of `threads`.
    - `encoders`: the threads that encode. Several segments are encoded at the same time.
    - `stages`: gets the busy seconds of all encoders together.

    Segments are published strictly in order. So the durable ones have no gap, whenever the process ends,
    unless the writer has left one out (`jump`).

    An error of an encoder or of publishing is raised by the next `write`, `flush` or `finish`, as `DiskFull`,
    `EngineFailed`, MemoryError, or what the folder's `publish` raises. After an error the writer cannot be
    used any more. It is a context manager. Leaving it publishes the segments that have all of their batches,
    unless there was such an error, and deletes the files of the others.
    """

    def __init__(
        self,
        folder: SegmentFolder,
        open_encoder: Callable[..., SegmentEncoder],
        *,
        first: int,
        batches: int,
        encoders: EncoderPool,
        stages: Stages | None = None,
    ) -> None:
        self._folder = folder
        self._open_encoder = open_encoder
        self._end = first
        self._limit = batches
        self._encoders = encoders
        self._stages = stages or Stages()
        self._plan: EncoderPlan | None = None
        self._filling: OpenSegment | None = None
        self._unpublished: deque[OpenSegment] = deque()
        self._waiting = 0  # batches
        self._free: list[NDArray[Any]] = []
        self._steps = Steps()
        self._publisher = ThreadPoolExecutor(1, "clip-writer")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._filling:
            self._unpublished.pop().discard()  # it is the last one
        with suppress(Exception):  # the caller has it, or has one of its own
            self._steps.wait_for(lambda: not self._unpublished)
        self._publisher.shutdown()
        for segment in self._unpublished:
            segment.discard()

    @property
    def segment_ends(self) -> bool:
        """Whether the next batch is the last one of its segment."""
        return (self._filling.batches if self._filling else 0) + 1 == self._limit

    def write(
        self,
        results: Any,
        pts: Sequence[int],
        frames: int,
        state: Callable[[Path], None] | None = None,
    ) -> None:
        """Have the results of a batch of `frames` frames encoded, which belong to the times `pts`.

        Frames are copied, so the caller may overwrite them after the call. If the batch ends a segment,
        `state` writes the model's state after it to a path. The call waits while as many batches wait for
        their encoders, or as many segments to be published, as the plan of the encoders allows.
        """
        size = results.nbytes if isinstance(results, np.ndarray) else sum(map(len, results))
        plan = self._plan = self._plan or self._encoders.plan(size, self._limit)
        self._steps.wait_for(lambda: self._waiting < plan.waiting)
        segment = self._filling = self._filling or self._begin_segment(plan)
        with self._steps.changing():
            self._waiting += 1
        self._add_step(segment, partial(self._encode, segment, self._copy(results), pts))
        segment.batches += 1
        segment.end = self._end = segment.end + frames
        if segment.batches == self._limit:
            self._end_segment(state)

    def flush(self) -> None:
        """Publish the last segment also if it is short, and wait until all segments are published."""
        self._end_segment()
        self._steps.wait_for(lambda: not self._unpublished)

    def jump(self, first: int) -> None:
        """Go on with frame `first`, for which a segment must have ended."""
        self._end = first

    def finish(self, end: ClipEnd) -> None:
        """Publish the last segment, and record that the clip ends with it, and how."""
        self.flush()
        with map_write_errors():
            self._folder.complete(self._end, end)

    def _begin_segment(self, plan: EncoderPlan) -> OpenSegment:
        """Add a segment. Its first step opens the encoder, so no more are open than the pool has threads."""
        self._steps.wait_for(lambda: len(self._unpublished) <= plan.segments)
        open_encoder = partial(self._open_encoder, threads=plan.threads)
        strand = self._encoders.strand()
        segment = OpenSegment(self._end, self._end, self._folder.partial(), strand, open_encoder)
        self._unpublished.append(segment)
        return segment

    def _end_segment(self, state: Callable[[Path], None] | None = None) -> None:
        if segment := self._filling:
            self._filling = None
            self._add_step(segment, partial(self._finish_encoder, segment))
            self._publisher.submit(self._steps.run, partial(self._publish, segment, state))

    def _add_step(self, segment: OpenSegment, step: Callable[[], None]) -> None:
        """Have the step run in a thread of the pool, after those of the segment before it."""
        segment.calls.submit(partial(self._steps.run, step))

    def _copy(self, results: Any) -> Any:
        """Copy frames into the memory of an encoded batch, because new memory is slow."""
        if not isinstance(results, np.ndarray):
            return results
        with self._steps.changing():
            memory = self._free.pop() if self._free else None
        if memory is None or len(memory) < len(results):  # the first batch of all was a short one
            memory = np.empty(results.shape, results.dtype)
        copy = memory[: len(results)]
        np.copyto(copy, results)
        return copy

    def _encode(self, segment: OpenSegment, results: Any, pts: Sequence[int]) -> None:
        with self._stages.busy("encode"):
            segment.encoder.encode(results, pts)
        with self._steps.changing():
            self._waiting -= 1
            if isinstance(results, np.ndarray):
                self._free.append(cast(NDArray[Any], results.base))

    def _finish_encoder(self, segment: OpenSegment) -> None:
        with self._stages.busy("encode"):
            segment.encoder.finish()
        with self._steps.changing():
            segment.is_encoded = True

    def _publish(self, segment: OpenSegment, state: Callable[[Path], None] | None) -> None:
        """Publish the segment after those before it, so that another attempt can continue after it."""
        self._steps.wait_for(lambda: segment.is_encoded)
        if state:
            segment.state = self._folder.partial()
            state(segment.state)
        self._folder.add(segment.path, segment.first, segment.end, segment.encoder.suffix, segment.state)
        with self._steps.changing():
            self._unpublished.popleft()
