"""Threads that are used again: to start one takes longer than all else that a worker does to start a chat."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Threads"]


class Threads:
    """As many as were ever needed at once; daemons, so that one that hangs does not keep the worker alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._free = threading.Semaphore(0)

    def run(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise, in a thread of its own."""
        if not self._free.acquire(blocking=False):
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        self._work.put(work)

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            work()
            del work  # or what it holds would be kept until the next one comes
            self._free.release()
