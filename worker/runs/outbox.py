"""The outbox: takes events from engines without making them wait, and logs them in order."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from worker.jobs.events import Event
from worker.jobs.ledger.appends import Append, Reply
from worker.jobs.ledger.ledger import Ledger

__all__ = ["Letter", "Outbox", "Sender", "Source"]

log = logging.getLogger(__name__)

RETRY_MIN_S, RETRY_MAX_S = 0.05, 2.0
#: What Redis refuses now may be taken later.
CANNOT_WRITE = (OutOfMemoryError, ReadOnlyError)
#: Tokens that follow others wait for so many times what sending all took the last time, and at most so many
#: seconds: under load they travel together, and the engine has the interpreter for most of the time.
REST, REST_MAX_S = 12.0, 0.25


@dataclass(eq=False, slots=True)
class Sender:
    """One attempt at one job, as the outbox sees it.

    `on_reply` is called from the outbox's thread.
    """

    job_id: str
    attempt: int
    #: Number of the attempt's next event.
    next: int
    on_reply: Callable[[Reply], None]


class Letter(NamedTuple):  # one is made for each token event
    """Events for one job's log, perhaps none, with the record fields that change with them."""

    sender: Sender
    events: tuple[Event, ...]
    fields: dict[str, Any]

    def append(self) -> Append:
        """What it adds to the job, numbered on from its last event."""
        sender, first = self.sender, self.sender.next
        sender.next += len(self.events)
        return Append(sender.job_id, sender.attempt, first, self.events, self.fields)


class Source(Protocol):
    """Who has something to say, and is asked for it when it can be sent."""

    def collect(self) -> Sequence[Letter]:
        """All there is to say by now; called from the outbox's thread."""


class Outbox:
    """Sends what there is to say since the last round trip in one pipeline.

    What is urgent goes at once, the rest when the outbox has rested: meanwhile it grows together. While Redis
    is away letters are kept and sent again: an append is safe to repeat.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sources: dict[Source, None] = {}  # a dict keeps their order
        self._urgent: dict[Source, None] = {}
        self._everything = True  # is being sent, not only what is urgent
        self._rested_at = 0.0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the sending thread."""
        self._thread.start()

    def put(self, sources: Collection[Source] = (), urgent: Collection[Source] = ()) -> None:
        """Queue the sources, some of them to be asked at once; returns without waiting."""
        with self._changed:
            if urgent or (sources and not self._sources):  # else it rests, and wakes by itself
                self._changed.notify()
            self._sources.update(dict.fromkeys(sources))
            self._urgent.update(dict.fromkeys(urgent))

    def stop(self, timeout_s: float) -> None:
        """Send what is left, for at most `timeout_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while sources := self._take():
            began = time.monotonic()
            letters = list(_collect(sources))
            appends = [letter.append() for letter in letters]
            try:
                replies = self._send(appends)
            except Exception:  # no reason to leave all other jobs without their events
                log.exception("these events cannot be logged; their jobs go back to the queue")
                replies = ["stale"] * len(appends)
            for letter, reply in zip(letters, replies, strict=True):
                try:
                    letter.sender.on_reply(reply)
                except Exception:  # likewise
                    log.exception("job %s did not take the ledger's answer", letter.sender.job_id)
            if self._everything:
                now = time.monotonic()
                self._rested_at = now + min(REST * (now - began), REST_MAX_S)

    def _take(self) -> Iterable[Source]:
        """Who is to be asked now; waits for it. None left and stopping: nobody."""
        with self._changed:
            while not (self._stopping or self._urgent or (self._sources and self._rest_s() <= 0)):
                self._changed.wait(self._rest_s() if self._sources else None)
            self._everything = self._stopping or self._rest_s() <= 0
            taken, self._urgent = self._urgent, {}
            if self._everything:
                taken, self._sources = self._sources | taken, {}
            for source in taken if self._sources else ():
                self._sources.pop(source, None)
            return taken

    def _rest_s(self) -> float:
        """How long what is not urgent still waits, in seconds."""
        return self._rested_at - time.monotonic()

    def _send(self, appends: list[Append]) -> list[Reply]:
        delay_s = RETRY_MIN_S
        while True:
            try:
                return self._ledger.append(appends)
            except RedisError as error:
                if isinstance(error, ResponseError) and not isinstance(error, CANNOT_WRITE):
                    raise  # the same answer would come again
                log.warning("Redis is away, %d jobs' events wait: %s", len(appends), error)
                time.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_MAX_S)


def _collect(sources: Iterable[Source]) -> Iterator[Letter]:
    for source in sources:
        try:
            yield from source.collect()
        except Exception:  # the others must not pay for it
            log.exception("events are lost; their job ends when its time is up")
