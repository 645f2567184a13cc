"""The stages of a clip's pipeline, and the seconds that each of them was busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from worker.jobs.metrics.video import Stage

__all__ = ["Stages"]


class Stages:
    """A clock of the stages of one clip. Any thread may call its methods.

    Stages overlap, because each has a thread of its own except for `copy` and `model`. So the sum of their
    seconds is longer than the job. A stage that waits for another one is not busy.
    """

    def __init__(self) -> None:
        self._seconds: dict[Stage, float] = {}
        self._taken: dict[Stage, float] = {}
        self._lock = threading.Lock()

    def add(self, stage: Stage, seconds: float) -> None:
        """Add busy seconds of a stage."""
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    @contextmanager
    def busy(self, stage: Stage) -> Iterator[None]:
        """Add the duration of the block to a stage, also if the block raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def take(self) -> Mapping[Stage, float]:
        """Return the seconds of each stage since the last call."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
            for stage, seconds in taken.items():
                self._taken[stage] = self._taken.get(stage, 0.0) + seconds
            return taken

    @property
    def taken(self) -> dict[str, float]:
        """The sums of what `take` has returned, in milliseconds' precision."""
        with self._lock:
            return {stage: round(seconds, 3) for stage, seconds in self._taken.items()}
