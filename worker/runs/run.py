"""A run: one attempt at one claimed job, from its claim to its one ending."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from worker.jobs.events import TERMINAL, Event, Failed
from worker.jobs.ledger.appends import Ended, Reply, json_fields
from worker.jobs.records import Record
from worker.runs.outbox import Letter, Outbox, Sender

__all__ = ["Run"]


class Run:
    """What a runner needs of its job: the record, a way to emit events, and whether to stop.

    `on_stop` is called once, from any thread, when the run must stop early: its client canceled it,
    another attempt owns the job, or the worker hands it back.
    """

    def __init__(self, record: Record, outbox: Outbox) -> None:
        self.record = record
        #: Unique to the attempt, so that an engine never mixes two attempts at one job.
        self.id = f"{record.id}.{record.attempt}"
        self.on_stop: Callable[[], None] = lambda: None
        #: Set when the run must stop early.
        self.stopping = threading.Event()
        #: Set when the ledger has the run's last event, or will not take it.
        self.over = threading.Event()
        #: What became of the run: the type of its last event, or "abandoned".
        self.outcome: str | None = None
        #: Whom its end has called; None if somebody is still to ask for that.
        self.dispatched: Sequence[str] | None = None
        self._acknowledged = threading.Event()
        self._lock = threading.Lock()
        self._outbox = outbox
        self._unsent: deque[Letter] = deque()
        self._sender = Sender(record.id, record.attempt, record.events + 1, self._on_reply)

    def letter(self, *events: Event, **fields: Any) -> Letter | None:
        """The events as a letter for the outbox; None once the run has ended or was taken away.

        Also a letter without events brings an answer: whether the client has canceled the job.
        """
        with self._lock:
            if self.outcome:
                return None
            if events and events[-1].type in TERMINAL:
                self.outcome = events[-1].type
        return Letter(self._sender, events, json_fields(**fields))

    def emit(self, *events: Event, **fields: Any) -> None:
        """Log the events; fields of the record change with them."""
        if letter := self.letter(*events, **fields):
            self._acknowledged.clear()
            self._unsent.append(letter)
            self._outbox.put(urgent=[self])

    def collect(self) -> Sequence[Letter]:
        """What was emitted since the last time (Source)."""
        return [self._unsent.popleft() for _ in range(len(self._unsent))]

    def fail(self, code: str, message: str) -> None:
        """End the job as `failed`."""
        self.emit(Failed(code, message), error={"code": code, "message": message})

    def wait_logged(self, timeout_s: float) -> None:
        """Wait until what was emitted is in the ledger, so that a cancel is known; not for longer."""
        self._acknowledged.wait(timeout_s)

    def stop(self) -> None:
        """Ask the runner to stop; it ends the job as `canceled` unless the run was abandoned."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.on_stop()

    def abandon(self) -> None:
        """Log nothing more: the job is not this attempt's any longer."""
        with self._lock:
            if self.over.is_set():
                return
            self.outcome = "abandoned"
        self.over.set()
        self.stop()

    def _on_reply(self, reply: Reply) -> None:
        if isinstance(reply, Ended):
            self.dispatched = reply.dispatched
            self.over.set()
        elif reply == "stale":
            self.abandon()
        elif reply == "cancel":
            self.stop()
        if not self._acknowledged.is_set():  # which costs less than to set it for each token event
            self._acknowledged.set()  # last, so that who waits for it finds `stopping` set
