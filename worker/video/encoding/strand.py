"""Calls that run one after the other in the threads of a pool, without a thread of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from threading import Condition

__all__ = ["Strand"]


class Strand:
    """Calls that run one after the other, in any threads of the pool. A call must not raise."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._calls: deque[Callable[[], None]] = deque()
        self._changed = Condition()
        self._scheduled = self._running = False

    def submit(self, call: Callable[[], None]) -> None:
        """Run the call after those before it. A strand without calls occupies no thread."""
        with self._changed:
            self._calls.append(call)
            if self._scheduled:
                return
            self._scheduled = True
        self._threads.submit(self._run)

    def close(self) -> None:
        """Drop the calls that have not begun, and wait for the end of the running one."""
        with self._changed:
            self._calls.clear()
            self._changed.wait_for(lambda: not self._running)

    def _run(self) -> None:
        while call := self._next():
            call()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._scheduled = self._running = bool(self._calls)
            self._changed.notify_all()
            return self._calls.popleft() if self._calls else None
