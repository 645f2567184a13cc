"""Clocks of tests: one that stands still, and that of a host that is wrong."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["StillClock", "host_clock_ahead"]


class StillClock:
    """A clock that stands still until the test moves it. Its time is in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def host_clock_ahead(seconds: float) -> Iterator[None]:
    """Run the block as on a host whose clock is so far ahead. The monotonic clock stays right."""
    right = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + seconds)
        yield
