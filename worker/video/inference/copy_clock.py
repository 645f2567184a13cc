"""Measures the copies of one batch between the host and the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["CopyClock"]


class CopyClock:
    """A clock of the copies of one batch.

    It never waits for a GPU. There the host only queues a copy, and events mark its start and its end. The
    results are on the host when `seconds` is called, so the GPU has passed these events. A copy that it has
    not passed counts as 0: the model has made its results without it.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Measure the copy that the block makes or queues."""
        if not self._on_gpu:
            start_s = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start_s
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        yield
        end.record()
        self._events.append((start, end))

    @property
    def seconds(self) -> float:
        """The seconds of all copies."""
        passed = (pair for pair in self._events if pair[1].query())  # type: ignore[no-untyped-call]
        milliseconds: float = sum(start.elapsed_time(end) for start, end in passed)
        return self._seconds + milliseconds / 1000
