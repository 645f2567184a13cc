"""The heartbeat: renews the worker's lease and shows its card, from a thread of its own."""

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from worker.jobs.records import WorkerCard
from worker.jobs.registry import Registry

__all__ = ["Heartbeat"]

log = logging.getLogger(__name__)


class Heartbeat:
    """Renews every third of the lease, and at once when told that the card has changed."""

    def __init__(self, registry: Registry, card: Callable[[], WorkerCard]) -> None:
        self._registry = registry
        self._card = card
        self._interval_s = registry.ledger.settings.lease_ttl_s / 3
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Renew in the caller's thread first, so that Redis' absence is an error here; then go on."""
        self._registry.renew(self._card())
        self._thread.start()

    def beat(self) -> None:
        """Renew now."""
        self._changed.set()

    def stop(self) -> None:
        """End the lease."""
        self._stopped.set()
        self._changed.set()
        self._thread.join()
        try:
            self._registry.release(self._card().name)
        except RedisError as error:
            log.warning("the lease will lapse by itself: %s", error)

    def _loop(self) -> None:
        while not self._stopped.is_set():
            try:
                self._registry.renew(self._card())
            except RedisError as error:
                log.warning("lease not renewed: %s", error)
            self._changed.wait(self._interval_s)
            self._changed.clear()
