"""The outbox: one thread that appends the events of all runs to the ledger, so that engines never wait."""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.ledger.appends import Append, Reply
from worker.jobs.logs.facts import facts
from worker.jobs.records import Record
from worker.runs.delivery import Delivery
from worker.runs.unconfirmed import Unconfirmed

__all__ = ["EventProducer", "Outbox"]

log = logging.getLogger(__name__)


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
    """

    def __init__(
        self, dispatcher: Dispatcher, *, coalesce_factor: float = 12.0, coalesce_max_s: float = 0.25
    ) -> None:
        self._delivery = Delivery(dispatcher)
        self._clock = dispatcher.ledger.store.clock
        self._offers_again = False
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

    @property
    def unconfirmed(self) -> Unconfirmed:
        """The appends that a failover of Redis may still lose."""
        return self._delivery.unconfirmed

    def time(self) -> float:
        """Return the time of Redis (s since the epoch), for an event. It goes on while Redis is away."""
        return self._clock.now()

    def begin(self, record: Record) -> None:
        """Note the claim of an attempt, whose events come next. A failover of Redis may lose it, too."""
        self.unconfirmed.begin(record, time.monotonic())

    def offer_again(self) -> None:
        """Send all unconfirmed appends again. Return at once, from any thread."""
        self.unconfirmed.suspect_all()
        with self._changed:
            self._offers_again = True
            self._changed.notify()

    def stop(self, timeout_s: float) -> None:
        """Send the remaining events, then end the thread. Wait for that for at most `timeout_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while (producers := self._next_producers()) is not None:
            if self._offers_again:
                self._offer_again()
            began = time.monotonic()
            self._flush(producers)
            if self._flush_all:
                now = time.monotonic()
                delay_s = min(self._coalesce_factor * (now - began), self._coalesce_max_s)
                self._next_flush_at = now + delay_s

    def _flush(self, producers: Iterable[EventProducer]) -> None:
        drained = list(_drain(producers))
        try:
            replies = self._delivery.send([append for _, append in drained]) if drained else []
        except Exception:  # all other jobs still need their events
            log.exception("these events cannot be logged; their jobs go back to the queue")
            replies = ["stale"] * len(drained)
        for (producer, append), reply in zip(drained, replies, strict=True):
            try:
                producer.on_reply(append, reply)
            except Exception:  # all other jobs still need their replies
                log.exception(
                    "the job has failed to handle the ledger's reply",
                    extra=facts(job=append.job_id, attempt=append.attempt),
                )

    def _offer_again(self) -> None:
        self._offers_again = False  # first, so that no later request is lost
        try:
            self._delivery.send_again()
        except Exception:  # all jobs still need their next events
            log.exception("the unconfirmed events cannot be sent again")

    def _next_producers(self) -> Collection[EventProducer] | None:
        """Wait until producers are due, and return them.

        Return none of them if unconfirmed appends must be sent again now. Return None if the outbox stops and
        none is left.
        """
        with self._changed:
            while not (self._stopping or self._offers_again or self._urgent or self._deferred_are_due()):
                self._changed.wait(self._delay_s() if self._deferred else None)
            if self._stopping and not (self._offers_again or self._urgent or self._deferred):
                return None
            self._flush_all = self._stopping or self._delay_s() <= 0
            due, self._urgent = self._urgent, {}
            if self._flush_all:
                due, self._deferred = self._deferred | due, {}
            for producer in due if self._deferred else ():
                self._deferred.pop(producer, None)
            return due

    def _deferred_are_due(self) -> bool:
        return bool(self._deferred) and self._delay_s() <= 0

    def _delay_s(self) -> float:
        """Return the seconds until the next full flush; negative once it is due."""
        return self._next_flush_at - time.monotonic()


def _drain(producers: Iterable[EventProducer]) -> Iterator[tuple[EventProducer, Append]]:
    for producer in producers:
        try:
            for append in producer.drain():
                yield producer, append
        except Exception:  # one broken producer must not cost the others their events
            log.exception("events of a job are lost; the job ends at its deadline")
