"""A readers-writer lock for jobs: many jobs hold it together, or one job holds it exclusively."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SharedLock"]


class SharedLock:
    """A lock with many shared holders or one exclusive holder.

    A thread that waits to hold the lock exclusively goes before the shared holders that come later.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders = 0
        #: Threads that hold the lock exclusively, or wait to.
        self._exclusive = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with other shared holders."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive)
            self._holders += 1
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock without any other holder."""
        with self._changed:
            self._exclusive += 1
            self._changed.wait_for(lambda: not self._holders)
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._exclusive -= 1
            self._release()

    def _release(self) -> None:
        with self._changed:
            self._holders -= 1
            self._changed.notify_all()
