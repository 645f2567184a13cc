"""One thread that lives as long as its worker and does, in turn, what others ask of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class DeviceThread:
    """A daemon, unlike an executor's: a device that hangs must not keep the worker from ending."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        Thread(target=self._serve, name=name, daemon=True).start()

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises, in the thread."""
        future: Future[T] = Future()
        self._calls.put((function, future))
        try:
            return future.result()
        finally:
            del future  # its error's traceback would lead back to it

    def stop(self) -> None:
        """End the thread once it has done what it was asked before."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del call, function, future  # or they would be kept until the next one comes
