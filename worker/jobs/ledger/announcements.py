"""Announcements over Redis: a process waits for one, and need not ask again and again."""

import logging
import threading
import time
import uuid

from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from worker.jobs.ledger.store import RedisStore

__all__ = ["Announcements", "Topic"]

log = logging.getLogger(__name__)

#: Pause before the subscription is made again after an error, in seconds.
RETRY_S = 0.5


class Topic:
    """The announcements on one topic, for one waiting thread."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._woken = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        """Wait for an announcement, or a call of `wake`, since the last wait. Return whether it has come."""
        woken = self._woken.wait(timeout_s)
        self._woken.clear()
        return woken

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()


class Announcements:
    """The announcements that one process waits for. Scripts make them (`announce` in `lua/prelude.lua`).

    A thread keeps the subscription. Announcements are lost while it has none, so a new subscription counts
    as an announcement on each topic. A thread that must not miss one also asks at long intervals.

    A connection whose server has vanished looks like one on which nothing happens, and so does one to a
    server that is no longer the primary. So after a silence of `check_s`, by default a lease, the thread
    sends itself a message, and connects again if it does not come.
    """

    def __init__(self, store: RedisStore, check_s: float | None = None) -> None:
        self._store = store
        self._check_s = check_s or store.settings.lease_ttl_s
        self._own = store.key("announce", uuid.uuid4().hex)
        self._topics: list[Topic] = []

    def topic(self, *name: str) -> Topic:
        """Return the topic of this name. Call this before `start`."""
        topic = Topic(self._store.key("announce", *name))
        self._topics.append(topic)
        return topic

    def start(self) -> None:
        """Start the thread, if there are topics. It runs as long as the process."""
        if self._topics:
            threading.Thread(target=self._run, name="announcements", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                with self._store.client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    self._listen(pubsub)
            except RedisError as error:
                log.debug("announcements: the connection to Redis was lost, trying again: %s", error)
            except Exception:
                log.exception("announcements: unexpected error, starting again")
            time.sleep(RETRY_S)

    def _listen(self, pubsub: PubSub) -> None:
        pubsub.subscribe(self._own, *{topic.channel for topic in self._topics})
        is_checked = False
        while True:
            message = pubsub.get_message(timeout=self._check_s)
            if message:  # an announcement, the confirmation of a subscription, or the message of this thread
                is_checked = False
                for topic in self._topics:
                    if topic.channel == message["channel"]:
                        topic.wake()
            elif is_checked:
                raise RedisConnectionError("the subscription gets no messages")
            else:
                self._store.client.publish(self._own, "")
                is_checked = True
