"""The metrics of HTTP: each process gathers them in memory, and adds them to those in Redis."""

import logging
import threading
import time
import uuid

from redis.exceptions import RedisError

from worker.jobs.ledger.metrics_store import MetricsStore
from worker.jobs.metrics.http import REQUEST_SECONDS
from worker.jobs.metrics.metric import Increments

__all__ = ["RequestMetrics"]

log = logging.getLogger(__name__)

#: Seconds between two additions to Redis.
FLUSH_S = 2.0


class RequestMetrics:
    """The requests that this process has answered since it last added them to the metrics in Redis.

    A request costs a few additions in memory. While Redis is away, the sums stay here. They need no more room
    for more requests, because there are only so many routes, methods and statuses.
    """

    def __init__(self, store: MetricsStore) -> None:
        self._store = store
        self._gathered = Increments()
        #: What is on its way to Redis, and its number. It stays the same until Redis has acknowledged it.
        self._sending = Increments()
        self._number = 0
        self._process = uuid.uuid4().hex
        self._lock, self._flushing = threading.Lock(), threading.Lock()

    def start(self) -> None:
        """Start the thread that flushes. It runs as long as the process."""
        threading.Thread(target=self._loop, name="request-metrics", daemon=True).start()

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered after so many seconds."""
        with self._lock:
            self._gathered.observe(REQUEST_SECONDS, seconds, route, method, str(status))

    def flush(self) -> None:
        """Add what was gathered to Redis. Raises `RedisError`, and the next call then adds it."""
        with self._flushing:
            self._send()  # what an earlier call could not
            with self._lock:
                self._sending, self._gathered = self._gathered, Increments()
            self._number += 1
            self._send()

    def close(self) -> None:
        """Flush before the process ends."""
        self._try_flush()

    def _send(self) -> None:
        if self._sending:
            self._store.add(self._sending, self._process, self._number)
            self._sending = Increments()

    def _loop(self) -> None:
        while True:
            time.sleep(FLUSH_S)
            self._try_flush()

    def _try_flush(self) -> None:
        try:
            self.flush()
        except RedisError as error:
            log.debug("the metrics of requests wait for Redis: %s", error)
        except Exception:  # the next flush may succeed
            log.exception("the metrics of requests: this flush failed, the next one follows")
