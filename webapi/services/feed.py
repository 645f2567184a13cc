"""Fan-out of live events: one Redis subscription a process serves any number of clients."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from webapi.services.event_gate import EventGate
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.store import RedisStore

__all__ = ["Feed", "Inbox"]

logger = logging.getLogger(__name__)

#: Pause before the reader connects again after an error, in seconds.
RETRY_S = 0.5


class Inbox:
    """Bounded queue of one subscriber.

    It yields live events. None means that events may have been missed here, so the subscriber reads the log.
    """

    #: Events that the inbox holds. A client that falls further behind reads the log instead.
    LIMIT = 256

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[LoggedEvent | None] = queue.SimpleQueue()

    def put(self, event: LoggedEvent | None) -> None:
        """Add the event. A full inbox takes one None instead, and drops everything after it."""
        waiting = self._queue.qsize()
        if waiting <= self.LIMIT:
            self._queue.put(event if waiting < self.LIMIT else None)

    def get(self, timeout_s: float) -> LoggedEvent | None:
        """Return the next event, or None if the log must be read.

        Raises `TimeoutError` if nothing arrives within `timeout_s` seconds.
        """
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None


class Feed:
    """Subscriptions to the channels that clients have joined, and the delivery of their events.

    redis-py locks the writes of a PubSub, but neither its reads nor its reconnects. Therefore only the reader
    thread touches the PubSub. A client that joins or leaves wakes the reader through a control channel.

    Redis confirms every subscription, and confirms it again after a reconnect. Each confirmation puts None
    into the inboxes of its channel, so that their clients read the log.

    A connection whose server has vanished or was stopped looks like one on which nothing happens. So after
    `poll_s` seconds without a message the reader sends itself one, and connects again if it does not come.
    """

    def __init__(self, store: RedisStore, *, poll_s: float | None = None, retry_s: float = RETRY_S) -> None:
        self._client = store.client
        self._control = store.key("feed", uuid.uuid4().hex)
        self._poll_s = poll_s or store.settings.redis_timeout_s
        self._retry_s = retry_s
        self._lock = threading.Lock()
        self._inboxes: dict[str, set[Inbox]] = {}
        self._confirmed: set[str] = set()
        self._reader: threading.Thread | None = None
        self._wake_up_sent = False
        self._gate = EventGate(store, self._control, self._deliver)

    @contextmanager
    def join(self, channel: str) -> Iterator[Inbox]:
        """Subscribe to the channel for the time of the block, and yield the inbox of its events.

        The inbox begins with None as soon as Redis has confirmed the subscription. From then on it misses no
        event while the connection lasts.
        """
        inbox = Inbox()
        with self._lock:
            self._inboxes.setdefault(channel, set()).add(inbox)
            if channel in self._confirmed:
                inbox.put(None)
            if self._reader is None:
                self._reader = threading.Thread(target=self._run, name="feed", daemon=True)
                self._reader.start()
        self._wake_reader()
        try:
            yield inbox
        finally:
            with self._lock:
                self._inboxes[channel].discard(inbox)
                if not self._inboxes[channel]:
                    del self._inboxes[channel]
            self._wake_reader()

    def _wake_reader(self) -> None:
        """Make the reader check its subscriptions, unless a wake-up is on its way already."""
        if self._wake_up_sent:
            return
        self._wake_up_sent = True
        try:
            self._client.publish(self._control, "")
        except RedisError as error:  # the reader checks by itself, `poll_s` seconds later at most
            logger.debug("feed: the wake-up was not sent: %s", error)
            self._wake_up_sent = False

    def _run(self) -> None:
        while True:
            try:
                with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    self._listen(pubsub)
            except RedisError as error:
                logger.warning("feed: the connection to Redis was lost, trying again: %s", error)
            except Exception:
                logger.exception("feed: unexpected error, starting again")
            self._gate.clear()
            with self._lock:
                self._confirmed.clear()
                if not self._inboxes:  # the next client that joins starts another reader
                    self._reader = None
                    return
            time.sleep(self._retry_s)

    def _listen(self, pubsub: PubSub) -> None:
        pubsub.subscribe(self._control)
        requested, checked_at = {self._control}, time.monotonic()
        self._wake_up_sent = False
        while True:
            message = pubsub.get_message(timeout=self._poll_s)
            if message is None:
                self._check_connection()
                message = {"type": None, "channel": None}
            kind, channel = message["type"], message["channel"]
            if kind == "message" and channel == self._control:
                self._wake_up_sent = False  # a client that joins from now on sends another
                if message["data"]:
                    self._gate.put_marker(int(message["data"]))
            elif kind == "message":
                self._gate.put(channel, self._parse(message["data"]))
                if time.monotonic() - checked_at < self._poll_s:
                    continue
            if kind == "subscribe":
                requested.add(channel)
                with self._lock:
                    self._confirmed.add(channel)
                self._deliver(channel, None)
            if kind == "unsubscribe":  # a client may have joined since the request: subscribe again then
                requested.discard(channel)
            requested, checked_at = self._adjust(pubsub, requested), time.monotonic()

    def _check_connection(self) -> None:
        """Wake the reader over Redis. Raises `ConnectionError` if the last wake-up has not come back."""
        if self._wake_up_sent:
            raise RedisConnectionError("the subscription gets no messages")
        self._wake_reader()

    def _adjust(self, pubsub: PubSub, requested: set[str]) -> set[str]:
        """Subscribe to channels that clients have joined, and unsubscribe from those without clients.

        Returns the channels whose subscription is requested now.
        """
        with self._lock:
            wanted = {self._control, *self._inboxes}
            self._confirmed &= wanted
        if new := wanted - requested:
            pubsub.subscribe(*new)
        if gone := requested - wanted:
            pubsub.unsubscribe(*gone)  # type: ignore[no-untyped-call]
        return wanted

    def _deliver(self, channel: str, event: LoggedEvent | None) -> None:
        with self._lock:
            inboxes = list(self._inboxes.get(channel, ()))
        for inbox in inboxes:
            inbox.put(event)

    @staticmethod
    def _parse(text: str) -> LoggedEvent | None:
        try:
            return LoggedEvent.from_json(text)
        except (ValueError, KeyError, TypeError):
            logger.warning("feed: a message of %d characters is not an event", len(text))
            return None
