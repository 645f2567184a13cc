"""The heartbeat: renews the worker's lease and shows its card, from a thread of its own."""

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

__all__ = ["Heartbeat"]

log = logging.getLogger(__name__)


class Heartbeat:
    """Calls `beat` every third of the lease, and at once when woken."""

    def __init__(self, beat: Callable[[], None], lease_ttl_s: float) -> None:
        self._beat = beat
        self._interval_s = lease_ttl_s / 3
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Beat in the caller's thread first, so that Redis' absence is an error here; then go on."""
        self._beat()
        self._thread.start()

    def wake(self) -> None:
        """Beat now."""
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        """Beat no more; a beat that hangs, for its device does, is waited for no longer than this."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _loop(self) -> None:
        wait_s = self._interval_s
        while not self._stopped.is_set():
            self._woken.wait(wait_s)
            self._woken.clear()
            wait_s = self._interval_s / 3  # sooner, if this one fails
            try:
                if not self._stopped.is_set():
                    self._beat()
                wait_s = self._interval_s
            except RedisError as error:
                log.warning("lease not renewed: %s", error)
            except Exception:
                log.exception("lease not renewed")
