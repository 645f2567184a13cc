"""One attempt at one claimed job, from its claim to its terminal event."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from worker.jobs.events import Event, Failed
from worker.jobs.ledger.appends import Append, Reply, json_fields
from worker.jobs.records import Record
from worker.runs.outbox import Outbox

__all__ = ["Run"]


class Run:
    """An attempt at a job, as its runner sees it: the record, a way to emit events, and a request to stop.

    A run is an `EventProducer`. It numbers the events of its attempt when the outbox drains them, so their
    numbers follow the order in which they are sent. A terminal event is the last one: the run drops all
    events that come after it, and all events after `abandon`.

    `on_stop` is called once, from any thread, when the run must stop early: the client has canceled the job,
    another attempt owns it, or the worker hands it back.
    """

    def __init__(self, record: Record, outbox: Outbox) -> None:
        self.record = record
        #: Unique to the attempt, so that an engine never mixes up two attempts at one job.
        self.id = f"{record.id}.{record.attempt}"
        self.on_stop: Callable[[], None] = lambda: None
        #: Set when the run must stop early.
        self.stopping = threading.Event()
        #: Set when the ledger has the terminal event, or takes no more events of this attempt.
        self.over = threading.Event()
        #: The type of the terminal event, or "abandoned"; None while the run goes on.
        self.outcome: str | None = None
        self._acknowledged = threading.Event()
        self._lock = threading.Lock()
        self._outbox = outbox
        self._emitted: deque[tuple[tuple[Event, ...], dict[str, Any]]] = deque()
        #: The number of the attempt's next event. Only the outbox's thread uses it.
        self._next_number = record.events + 1

    def emit(self, *events: Event, **fields: Any) -> None:
        """Have the outbox log the events at once. `fields` of the record change together with them."""
        values = json_fields(**fields)
        with self._lock:
            if not self._accepts(events):
                return
            self._acknowledged.clear()
            self._emitted.append((events, values))
        self._outbox.put(urgent=[self])

    def next_append(self, *events: Event, **fields: Any) -> Append | None:
        """Return the events, numbered, as the attempt's next append; None if the run takes no more events.

        Another producer of the attempt calls this in its `drain`, and so only in the outbox's thread. It must
        return every append that it gets here: a missing one would leave a gap in the numbers. An append
        without events is useful, too, because its reply tells whether the client has canceled the job.
        """
        values = json_fields(**fields)
        with self._lock:
            if not self._accepts(events):
                return None
        return self._number(events, values)

    def drain(self) -> Sequence[Append]:
        """Return the appends of what was emitted since the last call (`EventProducer`)."""
        return [self._number(*self._emitted.popleft()) for _ in range(len(self._emitted))]

    def fail(self, code: str, message: str) -> None:
        """End the job as `failed`."""
        self.emit(Failed(code, message), error={"code": code, "message": message})

    def wait_logged(self, timeout_s: float) -> None:
        """Wait until the ledger has the emitted events and has reported a cancel, for at most `timeout_s`."""
        self._acknowledged.wait(timeout_s)

    def stop(self) -> None:
        """Ask the runner to stop. It then ends the job as `canceled`, unless the run has been abandoned."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.on_stop()

    def abandon(self) -> None:
        """Log no more events, and stop: the job no longer belongs to this attempt."""
        with self._lock:
            if self.over.is_set():
                return
            self.outcome = "abandoned"
        self.over.set()
        self.stop()

    def on_reply(self, reply: Reply) -> None:
        """Act on the ledger's reply to one of the attempt's appends (`EventProducer`)."""
        if reply == "ended":
            self.over.set()
        elif reply == "stale":
            self.abandon()
        elif reply == "cancel":
            self.stop()
        # Set last, so that `wait_logged` returns only after `stopping` is set. The check comes first because
        # it is cheaper than setting the event for each token.
        if not self._acknowledged.is_set():
            self._acknowledged.set()

    def _accepts(self, events: Sequence[Event]) -> bool:
        """Return whether the events may still be logged; note a terminal event. Needs the lock."""
        if self.outcome:
            return False
        if events and events[-1].terminal:
            self.outcome = events[-1].type
        return True

    def _number(self, events: Sequence[Event], fields: dict[str, Any]) -> Append:
        first = self._next_number
        self._next_number += len(events)
        return Append(self.record.id, self.record.attempt, first, events, fields)
