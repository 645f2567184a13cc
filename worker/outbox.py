"""The outbox: takes events from engines without making them wait, and logs them in order."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from worker.jobs.events import TERMINAL, Event, Token
from worker.jobs.ledger import Append, Ledger, Reply

__all__ = ["Letter", "Outbox", "Sender"]

log = logging.getLogger(__name__)

RETRY_MIN_S, RETRY_MAX_S = 0.05, 2.0
#: What Redis refuses now may be taken later.
CANNOT_WRITE = (OutOfMemoryError, ReadOnlyError)


@dataclass(eq=False, slots=True)
class Sender:
    """One attempt at one job, as the outbox sees it.

    `on_reply` is called from the outbox's thread, with whether the events it answers for ended the job.
    """

    job_id: str
    attempt: int
    #: Number of the attempt's next event.
    next: int
    on_reply: Callable[[Reply, bool], None]


@dataclass(frozen=True, slots=True)
class Letter:
    """Events for one job's log, perhaps none, with the record fields that change with them."""

    sender: Sender
    events: tuple[Event, ...]
    fields: dict[str, Any] = field(default_factory=dict)


class Outbox:
    """Sends what was put since the last round trip in one pipeline, coalescing each chat's tokens.

    While Redis is away letters are kept and sent again: an append is safe to repeat.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._letters: list[Letter] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the sending thread."""
        self._thread.start()

    def put(self, letters: Iterable[Letter]) -> None:
        """Queue the letters; returns at once."""
        with self._changed:
            self._letters.extend(letters)
            self._changed.notify()

    def stop(self, timeout_s: float) -> None:
        """Send what is left, for at most `timeout_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while letters := self._take():
            appends = _appends(letters)
            try:
                replies = self._send(list(appends.values()))
            except Exception:  # no reason to leave all other jobs without their events
                log.exception("these events cannot be logged; their jobs go back to the queue")
                replies = ["stale"] * len(appends)
            for (sender, append), reply in zip(appends.items(), replies, strict=True):
                try:
                    sender.on_reply(reply, any(event.type in TERMINAL for event in append.events))
                except Exception:  # likewise
                    log.exception("job %s did not take the ledger's answer", sender.job_id)

    def _take(self) -> list[Letter]:
        """All letters there are; waits for the first. None left and stopping: the empty list."""
        with self._changed:
            self._changed.wait_for(lambda: self._letters or self._stopping)
            letters, self._letters = self._letters, []
            return letters

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


def _appends(letters: Iterable[Letter]) -> dict[Sender, Append]:
    """One append a sender, its events numbered on from its last."""
    events: dict[Sender, list[Event]] = {}
    fields: dict[Sender, dict[str, Any]] = {}
    for letter in letters:
        queue = events.setdefault(letter.sender, [])
        for event in letter.events:
            _add(queue, event)
        fields.setdefault(letter.sender, {}).update(letter.fields)
    appends = {}
    for sender, queue in events.items():
        appends[sender] = Append(sender.job_id, sender.attempt, sender.next, queue, fields[sender])
        sender.next += len(queue)
    return appends


def _add(queue: list[Event], event: Event) -> None:
    """Append the event; a token joins a token before it."""
    last = queue[-1] if queue else None
    if isinstance(event, Token) and isinstance(last, Token):
        queue[-1] = replace(last, text=last.text + event.text, ids=last.ids + event.ids)
    else:
        queue.append(event)
