"""Announcements over Redis: a process waits for one, and need not ask again and again."""

import logging
import threading
import time

from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from worker.jobs.ledger.store import RedisStore

__all__ = ["Announcements"]

log = logging.getLogger(__name__)

#: Pause before the subscription is made again after an error, in seconds.
RETRY_S = 0.5
#: Seconds of silence after which the connection is checked.
CHECK_S = 15.0


class Announcements:
    """The announcements on one topic. Scripts make them (`announce` in `lua/prelude.lua`).

    A thread keeps the subscription. An announcement is lost while it has none, so each new subscription
    counts as an announcement. A caller that must not miss one also asks at long intervals.
    """

    def __init__(self, store: RedisStore, *topic: str) -> None:
        self._client = store.client
        self.channel = store.key("announce", *topic)
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcements", daemon=True)

    def start(self) -> None:
        """Start the thread. It runs as long as the process."""
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for an announcement, or a call of `wake`, since the last wait. Return whether it has come."""
        woken = self._woken.wait(timeout_s)
        self._woken.clear()
        return woken

    def wake(self) -> None:
        """End the wait of this process."""
        self._woken.set()

    def _run(self) -> None:
        while True:
            try:
                with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    self._listen(pubsub)
            except RedisError as error:
                log.debug("announcements: the connection to Redis was lost, trying again: %s", error)
            except Exception:
                log.exception("announcements: unexpected error, starting again")
            time.sleep(RETRY_S)

    def _listen(self, pubsub: PubSub) -> None:
        pubsub.subscribe(self.channel)
        while True:
            if pubsub.get_message(
                timeout=CHECK_S
            ):  # an announcement, or the confirmation of the subscription
                self.wake()
            elif pubsub.health_check_response_counter:
                raise RedisConnectionError("Redis does not answer")
