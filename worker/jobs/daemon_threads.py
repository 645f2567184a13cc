"""Reusable daemon threads."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["DaemonThreads"]

T = TypeVar("T")


class DaemonThreads:
    """A set of reusable threads: as many as were ever busy at once, and at most `limit`.

    They are daemons, unlike those of ThreadPoolExecutor, so that a thread that hangs does not keep the
    process alive. They are reused, because starting one takes longer than all other steps of starting a chat.
    """

    def __init__(self, name: str, limit: int = sys.maxsize) -> None:
        self._name = name
        self._limit = limit
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        #: The number of threads, and of the calls that wait or run.
        self._threads = self._pending = 0

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run `function` in a thread, and return the future of its result.

        A call whose future is canceled before it has begun is skipped. Raises RuntimeError if the process
        cannot have the new thread that it needs.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._pending >= self._threads and self._threads < self._limit:
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
                self._threads += 1
            self._pending += 1
        self._calls.put((function, future))
        return future

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in a thread, wait for it, and return its result or raise its error."""
        future = self.submit(function)
        try:
            return future.result()
        finally:
            del future  # breaks a reference cycle: future -> error -> traceback -> this frame

    def stop(self) -> None:
        """End the threads after the calls that are already queued. Do not wait for them."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            if not future.set_running_or_notify_cancel():
                self._end_call()
                continue
            try:
                result = function()
            except BaseException as error:
                self._end_call()
                future.set_exception(error)
            else:
                self._end_call()
                future.set_result(result)
                del result
            del call, function, future  # else they, and tensors they refer to, live until the next call

    def _end_call(self) -> None:
        with self._lock:
            self._pending -= 1
