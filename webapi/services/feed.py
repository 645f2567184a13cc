"""Fan-out of live events: one Redis subscription a process serves any number of clients."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from redis.client import PubSub
from redis.connection import ConnectionInterface
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

    A client that joins or leaves writes the command for its channel itself, under the lock. So a client that
    joins before it submits a job has subscribed first, and waits for nothing. Only the reader thread reads.
    redis-py may connect again while it reads, and then repeats the subscription to the control channel only.
    Therefore its confirmation means that the connection is new, and the reader subscribes to all channels.

    Redis confirms every subscription. Each confirmation puts None into the inboxes of its channel, so that
    their clients read the log.

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
        #: The connection that takes commands, and the channels whose last command was SUBSCRIBE.
        self._connection: ConnectionInterface | None = None
        self._requested: set[str] = set()
        #: True if a command could not be written. The reader finds out with the next message at the latest.
        self._broken = False
        self._confirmed: set[str] = set()
        self._reader: threading.Thread | None = None
        self._probe_sent = False
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
            elif channel not in self._requested:
                self._subscribe([channel])
            if self._reader is None:
                self._reader = threading.Thread(target=self._run, name="feed", daemon=True)
                self._reader.start()
        try:
            yield inbox
        finally:
            with self._lock:
                self._inboxes[channel].discard(inbox)
                if not self._inboxes[channel]:
                    del self._inboxes[channel]
                    self._unsubscribe(channel)

    def _subscribe(self, channels: Collection[str]) -> None:
        """Write the command if there is a connection. The caller holds the lock."""
        if channels and self._write("SUBSCRIBE", *channels):
            self._requested.update(channels)

    def _unsubscribe(self, channel: str) -> None:
        """Write the command if Redis knows the channel. The caller holds the lock."""
        if channel in self._requested:
            self._requested.discard(channel)
            self._confirmed.discard(channel)
            self._write("UNSUBSCRIBE", channel)

    def _write(self, *command: str) -> bool:
        """Write the command, and return whether that was possible. If it fails, the reader connects again."""
        if self._connection is None or not self._connection.is_connected:  # it would connect in this thread
            return False
        try:
            self._connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            logger.debug("feed: a command was not sent: %s", error)
            self._connection, self._broken = None, True
            return False
        return True

    def _run(self) -> None:
        while True:
            try:
                with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    try:
                        self._listen(pubsub)
                    finally:
                        self._stop_writing()
            except RedisError as error:
                logger.warning("feed: the connection to Redis was lost, trying again: %s", error)
            except Exception:
                logger.exception("feed: unexpected error, starting again")
            self._gate.clear()
            with self._lock:
                if not self._inboxes:  # the next client that joins starts another reader
                    self._reader = None
                    return
            time.sleep(self._retry_s)

    def _start_writing(self, connection: ConnectionInterface | None) -> None:
        """Use a new connection, on which nothing is subscribed yet, and subscribe to all channels."""
        with self._lock:
            self._connection, self._broken = connection, False
            self._requested.clear()
            self._confirmed.clear()
            self._subscribe(self._inboxes.keys())

    def _stop_writing(self) -> None:
        """Leave the connection alone, before it goes back to its pool and other commands."""
        with self._lock:
            self._connection, self._broken = None, False
            self._requested.clear()
            self._confirmed.clear()

    def _listen(self, pubsub: PubSub) -> None:
        self._probe_sent = False
        pubsub.subscribe(self._control)
        while True:
            message = pubsub.get_message(timeout=self._poll_s)
            if self._broken:
                raise RedisConnectionError("a subscription could not be sent")
            if message is None:
                self._check_connection()
                continue
            kind, channel = message["type"], message["channel"]
            if kind == "message" and channel == self._control:
                self._probe_sent = False
                if message["data"]:
                    self._gate.put_marker(int(message["data"]))
            elif kind == "message":
                self._gate.put(channel, self._parse(message["data"]))
            elif kind == "subscribe" and channel == self._control:
                self._start_writing(pubsub.connection)
            elif kind == "subscribe":
                self._confirm(channel)

    def _check_connection(self) -> None:
        """Send a message to the reader itself. Raises `ConnectionError` if the last one has not come back."""
        if self._probe_sent:
            raise RedisConnectionError("the subscription gets no messages")
        self._probe_sent = True
        try:
            self._client.publish(self._control, "")
        except RedisError as error:
            logger.debug("feed: the message to itself was not sent: %s", error)
            self._probe_sent = False

    def _confirm(self, channel: str) -> None:
        """Tell the clients of the channel that they miss no event from now on."""
        with self._lock:
            if channel in self._requested:
                self._confirmed.add(channel)
        self._deliver(channel, None)

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
