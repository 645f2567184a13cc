"""The outbox: one thread that appends the events of all runs to the ledger, so that engines never wait."""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from redis.exceptions import RedisError, ResponseError

from worker.jobs.connection.client import cannot_write
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.ledger.appends import Append, Reply

__all__ = ["EventProducer", "Outbox"]

log = logging.getLogger(__name__)

#: The first and the longest pause before a failed round trip is repeated, in seconds.
RETRY_MIN_S, RETRY_MAX_S = 0.05, 2.0


class EventProducer(Protocol):
    """A source of one attempt's events: a run, or the transcript of a chat.

    Producers that share an attempt also share the counter of its events, so the events of an attempt are
    numbered in the order in which its producers are drained. Only the outbox's thread calls these methods.
    """

    def drain(self) -> Sequence[Append]:
        """Return the appends of all events since the last call, numbered in this order."""

    def on_reply(self, append: Append, reply: Reply) -> None:
        """Act on the ledger's reply to an append. Each append gets one reply, in the order of the appends."""


class Outbox:
    """Appends the events of all producers that have some, in one pipeline per round trip.

    Urgent producers are drained at once. The others wait for a coalescing delay: if the last full flush took
    t seconds, the next one starts min(`coalesce_factor` * t, `coalesce_max_s`) seconds later. Tokens of many
    steps then share one round trip, and the outbox holds the interpreter for at most about 1/13 of the time.

    While Redis is away, the outbox keeps its appends and sends them again. An append is safe to repeat.
    """

    def __init__(
        self, dispatcher: Dispatcher, *, coalesce_factor: float = 12.0, coalesce_max_s: float = 0.25
    ) -> None:
        self._dispatcher = dispatcher
        self._coalesce_factor = coalesce_factor
        self._coalesce_max_s = coalesce_max_s
        # Dicts serve as ordered sets: producers are drained in the order in which they were put.
        self._deferred: dict[EventProducer, None] = {}
        self._urgent: dict[EventProducer, None] = {}
        #: Whether the flush under way drains all producers, and not only the urgent ones.
        self._flush_all = True
        #: When the next full flush may start, on the monotonic clock.
        self._next_flush_at = 0.0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the outbox's thread."""
        self._thread.start()

    def put(self, deferred: Collection[EventProducer] = (), urgent: Collection[EventProducer] = ()) -> None:
        """Queue producers: `urgent` ones are drained at once, `deferred` ones in the next full flush.

        Return at once, from any thread.
        """
        with self._changed:
            # Otherwise the thread already waits for the end of the coalescing delay, and wakes by itself.
            if urgent or (deferred and not self._deferred):
                self._changed.notify()
            self._deferred.update(dict.fromkeys(deferred))
            self._urgent.update(dict.fromkeys(urgent))

    def stop(self, timeout_s: float) -> None:
        """Send the remaining events, then end the thread. Wait for that for at most `timeout_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while producers := self._next_producers():
            began = time.monotonic()
            drained = list(_drain(producers))
            try:
                replies = self._send([append for _, append in drained])
            except Exception:  # all other jobs still need their events
                log.exception("these events cannot be logged; their jobs go back to the queue")
                replies = ["stale"] * len(drained)
            for (producer, append), reply in zip(drained, replies, strict=True):
                try:
                    producer.on_reply(append, reply)
                except Exception:  # all other jobs still need their replies
                    log.exception("job %s failed to handle the ledger's reply", append.job_id)
            if self._flush_all:
                now = time.monotonic()
                delay_s = min(self._coalesce_factor * (now - began), self._coalesce_max_s)
                self._next_flush_at = now + delay_s

    def _next_producers(self) -> Iterable[EventProducer]:
        """Wait until producers are due, and return them. Return none if the outbox stops and none is left."""
        with self._changed:
            while not (self._stopping or self._urgent or (self._deferred and self._delay_s() <= 0)):
                self._changed.wait(self._delay_s() if self._deferred else None)
            self._flush_all = self._stopping or self._delay_s() <= 0
            due, self._urgent = self._urgent, {}
            if self._flush_all:
                due, self._deferred = self._deferred | due, {}
            for producer in due if self._deferred else ():
                self._deferred.pop(producer, None)
            return due

    def _delay_s(self) -> float:
        """Return the seconds until the next full flush; negative once it is due."""
        return self._next_flush_at - time.monotonic()

    def _send(self, appends: Sequence[Append]) -> Sequence[Reply]:
        """Append to the ledger, again and again while Redis is away. Raise errors that would come again."""
        delay_s = RETRY_MIN_S
        while True:
            try:
                return self._dispatcher.append(appends)
            except RedisError as error:
                if isinstance(error, ResponseError) and not cannot_write(error):
                    raise
                log.warning("Redis is away, %d appends wait: %s", len(appends), error)
                time.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_MAX_S)


def _drain(producers: Iterable[EventProducer]) -> Iterator[tuple[EventProducer, Append]]:
    for producer in producers:
        try:
            for append in producer.drain():
                yield producer, append
        except Exception:  # one broken producer must not cost the others their events
            log.exception("events of a job are lost; the job ends at its deadline")
