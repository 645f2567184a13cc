"""The thread that uses the device, in which the calls of all clips take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from functools import partial
from typing import TypeVar

from worker.jobs.daemon_threads import DaemonThreads
from worker.jobs.errors import EngineDied
from worker.jobs.logs.context import about, current
from worker.video.inference.torch_errors import classify_torch_error

__all__ = ["DeviceThread"]

T = TypeVar("T")

#: Seconds between two calls of `check`.
WAIT_S = 1.0


class DeviceThread:
    """The only thread of a worker that uses the device, in the order of the calls.

    It is one thread, because CUDA graphs and cuDNN's tuning belong to a thread. After a call has lost the
    device, `lost` is the error, and no other call runs.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreads("video", limit=1)
        self.lost: EngineDied | None = None

    def call(self, function: Callable[[], T], check: Callable[[], None] = lambda: None) -> T:
        """Run `function` in the thread, and return its result or raise its error.

        `check` is called every second meanwhile. If it raises an error before the function has begun, the
        function does not run. A function that has begun is always waited for. Raises `EngineDied` if the
        device is lost.
        """
        future = self.submit(function)
        try:
            while not wait([future], WAIT_S).done:
                _check(check, future)
            return future.result()
        finally:
            del future  # breaks a reference cycle: future -> error -> traceback -> this frame

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run `function` in the thread after the calls before it. Return the future of its result.

        Lines that it logs have the fields of the caller's lines.
        """
        return self._threads.submit(partial(self._run, function, current()))

    def stop(self) -> None:
        """End the thread after the calls that are already queued. Do not wait for it."""
        self._threads.stop()

    def _run(self, function: Callable[[], T], fields: Mapping[str, object]) -> T:
        if self.lost:
            raise EngineDied(*self.lost.args)
        try:
            with about(**fields):
                return function()
        except Exception as error:
            failure = error if isinstance(error, EngineDied) else classify_torch_error(error)
            if isinstance(failure, EngineDied):
                self.lost = EngineDied(*failure.args)  # a new error, whose traceback refers to no tensors
            raise


def _check(check: Callable[[], None], future: Future[T]) -> None:
    try:
        check()
    except Exception:
        if future.cancel():
            raise
