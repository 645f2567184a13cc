"""The outbox: takes events from engines without making them wait, and logs them in order."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any, cast

from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from worker.jobs.events import TERMINAL, Event, Token
from worker.jobs.ledger import Append, Ledger, Reply

__all__ = ["Letter", "Outbox", "Sender"]

log = logging.getLogger(__name__)

RETRY_MIN_S, RETRY_MAX_S = 0.05, 2.0
#: What Redis refuses now may be taken later.
CANNOT_WRITE = (OutOfMemoryError, ReadOnlyError)
#: Tokens that follow others wait for so many times what sending all took the last time, and at most so many
#: seconds: under load they travel together, and the engine has the interpreter for most of the time.
REST, REST_MAX_S = 3.0, 0.1


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
    #: Whether its first token is on its way: those that follow may wait a little.
    flowing: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """Events for one job's log, perhaps none, with the record fields that change with them."""

    sender: Sender
    events: tuple[Event, ...]
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for it: for all but a token more of an answer that is flowing."""
        return not (self.sender.flowing and all(isinstance(event, Token) for event in self.events))


class Outbox:
    """Sends what was put since the last round trip in one pipeline, coalescing each chat's tokens.

    While Redis is away letters are kept and sent again: an append is safe to repeat.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._letters: dict[Sender, list[Letter]] = {}
        self._urgent: set[Sender] = set()
        self._everything = True  # is being sent, not only what is urgent
        self._rested_at = 0.0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the sending thread."""
        self._thread.start()

    def put(self, letters: Iterable[Letter]) -> None:
        """Queue the letters; returns at once."""
        with self._changed:
            for letter in letters:
                sender = letter.sender
                self._letters.setdefault(sender, []).append(letter)
                if letter.urgent:
                    self._urgent.add(sender)
                    sender.flowing = any(isinstance(event, Token) for event in letter.events)
            self._changed.notify()

    def stop(self, timeout_s: float) -> None:
        """Send what is left, for at most `timeout_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while letters := self._take():
            began = time.monotonic()
            appends = {sender: _append(sender, batch) for sender, batch in letters.items()}
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
            if self._everything:
                now = time.monotonic()
                self._rested_at = now + min(REST * (now - began), REST_MAX_S)

    def _take(self) -> dict[Sender, list[Letter]]:
        """What is to be sent now, by sender; waits for it. None left and stopping: nothing."""
        with self._changed:
            while not (self._stopping or self._urgent or (self._letters and self._rest_s() <= 0)):
                self._changed.wait(self._rest_s() if self._letters else None)
            self._everything = self._stopping or self._rest_s() <= 0
            senders = list(self._letters if self._everything else self._urgent)
            self._urgent.clear()
            return {sender: self._letters.pop(sender) for sender in senders}

    def _rest_s(self) -> float:
        """How long tokens that are not urgent still wait, in seconds."""
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


def _append(sender: Sender, letters: Iterable[Letter]) -> Append:
    """What the letters add to the job, numbered on from its last event; tokens in a row become one."""
    fields: dict[str, Any] = {}
    for letter in letters:
        fields |= letter.fields
    events: list[Event] = []
    logged = chain.from_iterable(letter.events for letter in letters)
    for row in [list(alike) for _, alike in groupby(logged, type)]:
        events += [Token.joined(cast(list[Token], row))] if isinstance(row[0], Token) else row
    append = Append(sender.job_id, sender.attempt, sender.next, events, fields)
    sender.next += len(events)
    return append
