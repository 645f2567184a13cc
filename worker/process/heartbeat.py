"""The heartbeat: a thread that renews the worker's lease and publishes its card."""

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

__all__ = ["Heartbeat"]

log = logging.getLogger(__name__)


class Heartbeat:
    """A thread that calls `beat` every third of the lease, and at once after `wake`.

    A beat that fails is repeated after a ninth of the lease.
    """

    def __init__(self, beat: Callable[[], None], lease_ttl_s: float) -> None:
        self._beat = beat
        self._interval_s = lease_ttl_s / 3
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Beat once in the caller's thread, then start the heartbeat's own.

        Raises the error of the first beat, such as a `RedisError` if Redis is away.
        """
        self._beat()
        self._thread.start()

    def wake(self) -> None:
        """Beat now, in the heartbeat's thread."""
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        """Stop beating. Wait for a beat under way for at most `timeout_s`: it hangs if its device does."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _loop(self) -> None:
        wait_s = self._interval_s
        while not self._stopped.is_set():
            self._woken.wait(wait_s)
            self._woken.clear()
            wait_s = self._interval_s / 3  # in case this beat fails
            try:
                if not self._stopped.is_set():
                    self._beat()
                wait_s = self._interval_s
            except RedisError as error:
                log.warning("lease not renewed: %s", error)
            except Exception:
                log.exception("lease not renewed")
