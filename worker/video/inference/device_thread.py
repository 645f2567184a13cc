"""A thread that runs all work of one device, because CUDA graphs and cuDNN's tuning belong to a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

__all__ = ["DeviceThread"]

T = TypeVar("T")


class DeviceThread:
    """A thread that executes functions one after the other.

    It is a daemon thread, unlike those of ThreadPoolExecutor, so a device that hangs cannot keep the worker
    process from exiting.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        Thread(target=self._serve, name=name, daemon=True).start()

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the thread, wait for it, and return its result or raise its error."""
        future: Future[T] = Future()
        self._calls.put((function, future))
        try:
            return future.result()
        finally:
            del future  # breaks a reference cycle: future -> error -> traceback -> this frame

    def stop(self) -> None:
        """End the thread after the calls that are already queued. Do not wait for it."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del call, function, future  # else they, and tensors they refer to, live until the next call
