"""The steps of the threads that work for one clip. The first error ends them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from worker.video.encoding.write_errors import map_write_errors

__all__ = ["Steps"]


class Steps:
    """Steps in several threads, and the thread for which they work. Any thread may call the methods."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._failure: Exception | None = None

    def run(self, step: Callable[[], None]) -> None:
        """Run the step, unless one has failed. `wait_for` raises its error, which `map_write_errors` maps."""
        try:
            with map_write_errors():
                self.wait_for(lambda: True)
                step()
        except Exception as error:
            with self.changing():
                self._failure = self._failure or error

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let the block change what `wait_for` waits for."""
        with self._changed:
            yield
            self._changed.notify_all()

    def wait_for(self, reached: Callable[[], object]) -> None:
        """Wait until `reached` returns a true value. Raises the error of a step, also if it comes later."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or reached())
            if self._failure:
                raise self._failure
