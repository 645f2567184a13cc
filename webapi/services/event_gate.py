"""The gate of live events: they pass when the replicas of Redis have them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count

from redis.client import Pipeline
from redis.exceptions import RedisError

from worker.jobs.errors import NotReplicated
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.store import RedisStore

__all__ = ["Deliver", "EventGate"]

logger = logging.getLogger(__name__)

#: Receives the events of a channel. None means that events are missing, so the log must be read.
Deliver = Callable[[str, LoggedEvent | None], None]

#: Events that the gate holds. Beyond this number it drops them, and their clients read the log.
MAX_HELD = 10_000
#: Pause before the replicas are asked again, in seconds.
RETRY_S = 0.2


class EventGate:
    """Holds live events back until the replicas have them, then delivers them in their order.

    A failover can lose an event that no replica has. Another event may then get its number, and a client that
    has seen the first one must not see the second one.

    The gate publishes a marker on `channel`, and waits for the replicas on the same connection. The feed
    receives the marker behind all events that the server published before it. So once the replicas have the
    marker, they have these events. A marker that reaches another server than the feed's never comes back.
    """

    def __init__(self, store: RedisStore, channel: str, deliver: Deliver) -> None:
        self._replicas = store.replicas
        self._channel = channel
        self._deliver = deliver
        self._changed = threading.Condition()
        self._held: deque[tuple[str, LoggedEvent | None]] = deque()
        #: The markers that have come back, and how many held events came before each of them.
        self._markers: deque[tuple[int, int]] = deque()
        #: The number of the last marker that has come back, and of the last one that the replicas have.
        self._returned = self._replicated = 0
        self._thread: threading.Thread | None = None

    def put(self, channel: str, event: LoggedEvent | None) -> None:
        """Take an event that the feed has received."""
        if not self._replicas.needed:
            self._deliver(channel, event)
            return
        with self._changed:
            self._held.append((channel, event))
            if len(self._held) > MAX_HELD:
                self._held = deque((channel, None) for channel in {channel for channel, _ in self._held})
                self._markers.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="event-gate", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def put_marker(self, number: int) -> None:
        """Take a marker that has come back."""
        with self._changed:
            self._returned = number
            self._markers.append((number, len(self._held)))
            self._release()
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop the events. The feed has lost its connection, so their clients read the log."""
        with self._changed:
            self._held.clear()
            self._markers.clear()

    def _loop(self) -> None:
        for number in count(1):
            with self._changed:
                self._changed.wait_for(lambda: self._held)
            try:
                self._replicas.run(partial(_publish, self._channel, number))
            except (RedisError, NotReplicated) as error:
                logger.warning("events wait for the replicas of Redis: %s", error)
                time.sleep(RETRY_S)
                continue
            with self._changed:
                self._replicated = number
                self._release()
                # The next marker could not confirm more events before this one has come back.
                self._changed.wait_for(partial(self._has_returned, number), RETRY_S)

    def _has_returned(self, number: int) -> bool:
        return self._returned >= number

    def _release(self) -> None:
        """Deliver the events before the last marker that the replicas have. The caller holds the lock."""
        ready = 0
        while self._markers and self._markers[0][0] <= self._replicated:
            _, ready = self._markers.popleft()
        self._markers = deque((number, before - ready) for number, before in self._markers)
        for _ in range(ready):
            self._deliver(*self._held.popleft())


def _publish(channel: str, number: int, pipe: Pipeline) -> None:
    pipe.publish(channel, str(number))
