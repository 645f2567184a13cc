"""A sandbox as the worker sees it: it takes tasks, and its answers can be waited for without hanging."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from worker.jobs.errors import BadVideo, DiskFull, EngineFailed, JobFailed, OutOfMemory
from worker.video.sandbox.channel import Channel

__all__ = ["Sandbox"]

T = TypeVar("T")

#: Seconds between two calls of `check`.
WAIT_S = 1.0

_FAILURES: dict[str, type[JobFailed]] = {
    failure.code: failure for failure in (BadVideo, DiskFull, EngineFailed, OutOfMemory)
}


class Sandbox:
    """A process that performs tasks on the files of one clip, one after the other.

    A thread of its own, `clip-reader`, talks to the process. Other threads `submit` functions to it, which
    may call `send`, `receive` and `receive_pixels`, and `wait` for their results.

    `check` is called every second while a caller waits. It may raise an error to give up. The sandbox is then
    of no more use.
    """

    def __init__(self, channel: Channel, check: Callable[[], None]) -> None:
        self._channel = channel
        self.check = check
        self._thread = ThreadPoolExecutor(1, "clip-reader")

    def call(self, task: str, **arguments: object) -> dict[str, Any]:
        """Have the task performed, and return its answer.

        Raises the `JobFailed` with which the task ended, `BadVideo` if the process crashed over the file, and
        what `check` raises.
        """

        def exchange() -> dict[str, Any]:
            self.send(task, **arguments)
            return self.receive()

        return self.wait(self.submit(exchange))

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        """Run the function in the sandbox's thread, after those that were submitted before."""
        return self._thread.submit(function, *arguments)

    def wait(self, future: Future[T]) -> T:
        """Wait for the result of a submitted function. Raises its error, or what `check` raises."""
        while not wait([future], WAIT_S).done:
            self.check()
        try:
            return future.result()
        except ConnectionError as error:
            raise BadVideo("The clip made the process that reads it crash, or run out of memory.") from error

    def send(self, task: str, **arguments: object) -> None:
        """Ask for a task."""
        self._channel.send({"task": task, **arguments})

    def receive(self) -> dict[str, Any]:
        """Return the next answer. Raises the `JobFailed` that it reports, and ConnectionError."""
        answer = self._channel.receive()
        if "error" in answer:
            raise _FAILURES[answer["error"]](answer["message"])
        return answer

    def receive_pixels(self, buffer: NDArray[np.uint8]) -> None:
        """Fill the buffer with the pixels that follow an answer. Raises ConnectionError."""
        self._channel.receive_pixels(buffer)

    def close(self) -> None:
        """End the connection and the thread."""
        self._channel.shut_down()
        self._thread.shutdown(cancel_futures=True)
        self._channel.close()
