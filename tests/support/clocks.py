"""The clock of a host that is wrong."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["host_clock_ahead"]


@contextmanager
def host_clock_ahead(seconds: float) -> Iterator[None]:
    """Run the block as on a host whose clock is so far ahead. The monotonic clock stays right."""
    right = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + seconds)
        yield
