"""The feed: one Redis subscription a process, fanned out to any number of clients."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.client import PubSub
from redis.exceptions import RedisError

from worker.jobs.events import LoggedEvent

__all__ = ["Feed", "Inbox"]

logger = logging.getLogger(__name__)

#: The reader looks after its subscriptions at least this often, should a wake-up get lost.
POLL_S = 5.0
RETRY_S = 0.5


class Inbox:
    """What one client has yet to take: live events, and None wherever only the log has them all."""

    #: A client slower than this many events reads the log instead.
    LIMIT = 256

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[LoggedEvent | None] = queue.SimpleQueue()

    def put(self, event: LoggedEvent | None) -> None:
        """Add the event; when the inbox is full a last None, and then nothing."""
        waiting = self._queue.qsize()
        if waiting <= self.LIMIT:
            self._queue.put(event if waiting < self.LIMIT else None)

    def get(self, timeout_s: float) -> LoggedEvent | None:
        """The next event; None when the log must be read. Raises `TimeoutError`."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None


class Feed:
    """Subscribes to the channels that clients have joined, and hands each its events.

    redis-py locks a PubSub's writes but not its reads or reconnects, so only the reader thread touches
    it; whoever joins or leaves wakes the reader through a channel of its own. Redis confirms every
    subscription, again after a reconnect, and each confirmation tells the clients to read the log.
    """

    def __init__(self, client: "redis.Redis", prefix: str) -> None:
        self._client = client
        self._control = f"{prefix}:{uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._inboxes: dict[str, set[Inbox]] = {}
        self._confirmed: set[str] = set()
        self._reader: threading.Thread | None = None
        self._woken = False

    @contextmanager
    def join(self, channel: str) -> Iterator[Inbox]:
        """An inbox for the channel's events; begins with None as soon as no event can be missed."""
        inbox = Inbox()
        with self._lock:
            self._inboxes.setdefault(channel, set()).add(inbox)
            if channel in self._confirmed:
                inbox.put(None)
            if self._reader is None:
                self._reader = threading.Thread(target=self._run, name="feed", daemon=True)
                self._reader.start()
        self._wake()
        try:
            yield inbox
        finally:
            with self._lock:
                self._inboxes[channel].discard(inbox)
                if not self._inboxes[channel]:
                    del self._inboxes[channel]
            self._wake()

    def _wake(self) -> None:
        """Have the reader look after its subscriptions, unless it is about to."""
        if self._woken:
            return
        self._woken = True
        try:
            self._client.publish(self._control, "")
        except RedisError as error:  # the reader finds out by itself, later
            logger.debug("feed: no wake-up: %s", error)
            self._woken = False

    def _run(self) -> None:
        while True:
            try:
                with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    self._listen(pubsub)
            except RedisError as error:
                logger.warning("feed: lost Redis, trying again: %s", error)
            except Exception:
                logger.exception("feed: starting over")
            with self._lock:
                self._confirmed.clear()
                if not self._inboxes:  # whoever joins next starts another
                    self._reader = None
                    return
            time.sleep(RETRY_S)

    def _listen(self, pubsub: PubSub) -> None:
        pubsub.subscribe(self._control)
        asked, looked = {self._control}, time.monotonic()
        while True:
            message = pubsub.get_message(timeout=POLL_S) or {"type": None, "channel": None}
            kind, channel = message["type"], message["channel"]
            if kind == "message" and channel != self._control:
                self._deliver(channel, self._parse(message["data"]))
                if time.monotonic() - looked < POLL_S:
                    continue
            if kind == "subscribe":
                asked.add(channel)
                with self._lock:
                    self._confirmed.add(channel)
                self._deliver(channel, None)
            if kind == "unsubscribe":  # a client may have joined since it was asked for
                asked.discard(channel)
            asked, looked = self._adjust(pubsub, asked), time.monotonic()

    def _adjust(self, pubsub: PubSub, asked: set[str]) -> set[str]:
        """Subscribe to what clients have joined since, unsubscribe from what the last of them left."""
        self._woken = False  # before it looks: who joins from now on wakes it again
        with self._lock:
            wanted = {self._control, *self._inboxes}
            self._confirmed &= wanted
        if new := wanted - asked:
            pubsub.subscribe(*new)
        if gone := asked - wanted:
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
            return LoggedEvent.parse(text)
        except (ValueError, KeyError, TypeError):
            logger.warning("feed: not an event: %.100r", text)
            return None
