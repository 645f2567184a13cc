"""Reusable threads: starting a thread would take longer than all other steps of starting a chat together."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Threads"]


class Threads:
    """A set of reusable daemon threads, as many as were ever busy at once.

    They are daemons so that a thread that hangs does not keep the worker alive.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._free = threading.Semaphore(0)

    def run_in_thread(self, work: Callable[[], None]) -> None:
        """Run `work` in a free thread, or in a new one. `work` must not raise."""
        if not self._free.acquire(blocking=False):
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        self._work.put(work)

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            work()
            del work  # otherwise the objects that it refers to would live until the next call
            self._free.release()
