"""The threads that encode the segments of all clips of a worker, several segments at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

from worker.devices.cores import usable_cores
from worker.video.encoding.strand import Strand

__all__ = ["WAITING_BYTES", "EncoderPlan", "EncoderPool"]

#: The most bytes of one clip's results that wait for their encoders. Two batches may wait in any case.
WAITING_BYTES = 2**30
#: Threads of one encoder. With more than the largest number, x264 gains nothing.
MIN_THREADS, MAX_THREADS = 2, 16


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """How a clip is encoded: `segments` at once with `threads` threads each, while `waiting` batches wait."""

    segments: int
    threads: int
    waiting: int


class EncoderPool:
    """Threads for `encoders` segments at once, by default for half as many as there are cores.

    x264 gains little from more than a few threads: on 16 cores, eight encoders of four threads are more than
    twice as fast as one encoder of 16. `cores` is by default the number that this process may use.
    """

    def __init__(self, encoders: int | None = None, cores: int | None = None) -> None:
        self._cores = cores or usable_cores()
        self._encoders = encoders or max(1, self._cores // 2)
        self._threads = ThreadPoolExecutor(self._encoders, "encoder")

    def plan(self, batch_bytes: int, batches: int) -> EncoderPlan:
        """Return how to encode a clip whose segments have `batches` batches of `batch_bytes` bytes each.

        While segments are encoded at the same time, half of their batches wait on average. If these are too
        large for that, fewer encoders work, and each has more threads.
        """
        room = max(2, WAITING_BYTES // max(1, batch_bytes))
        segments = max(1, min(self._encoders, 2 * room // (batches + 1)))
        threads = max(MIN_THREADS, min(MAX_THREADS, ceil(2 * (self._cores - 1) / segments)))
        return EncoderPlan(segments, threads, min(room, 1 + max(1, segments * (batches + 1) // 2)))

    def strand(self) -> Strand:
        """Return a new sequence of calls, for one encoder."""
        return Strand(self._threads)

    def close(self) -> None:
        """End the threads. All strands must be closed."""
        self._threads.shutdown()
