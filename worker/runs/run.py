"""One attempt at one claimed job, from its claim to its terminal event."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from enum import Enum, auto
from typing import Any, NamedTuple

from worker.jobs.events import AnswerEvent, Batch, Event, Failed
from worker.jobs.ledger.appends import NO_INCREMENTS, Append, Reply, json_fields
from worker.jobs.metrics.jobs import RESUME_GAP_SECONDS
from worker.jobs.metrics.metric import Increments
from worker.jobs.records import Record
from worker.runs.outbox import EventProducer, Outbox

__all__ = ["Run", "RunState"]


class RunState(Enum):
    """The states of a run, in their order. The last two are final."""

    #: The run takes events.
    RUNNING = auto()
    #: It has its terminal event, which the ledger may not have yet.
    ENDING = auto()
    #: The ledger has the terminal event.
    OVER = auto()
    #: The ledger takes no more events of this attempt, or must not get them.
    ABANDONED = auto()


class _Emitted(NamedTuple):
    """The arguments of a call of `emit`, and the future that it has returned."""

    events: tuple[Event, ...]
    increments: Mapping[str, int]
    fields: dict[str, Any]
    reply: Future[Reply]


class Run:
    """An attempt at a job, as its runner sees it: the record, a way to emit events, and a request to stop.

    A run is an `EventProducer`. It numbers the events of its attempt when the outbox drains them, so their
    numbers follow the order in which they are sent. A terminal event is the last one: the run drops all
    events that come after it, and all events after `abandon`.

    `on_stop` is called once, from any thread, when the run must stop early: the client has canceled the job,
    another attempt owns it, or the worker hands it back. `on_event`, if there is one, is called in the
    outbox's thread for each event that the ledger has logged.

    A run with `claimed` False computes while its claim is on its way. `record` is then what the claim should
    return, and all events wait until `confirm` and `release`.
    """

    def __init__(self, record: Record, outbox: Outbox, *, claimed: bool = True) -> None:
        self.record = record
        #: Unique to the attempt, so that an engine never mixes up two attempts at one job. A run whose claim
        #: turns out otherwise is followed by another one of the same claim.
        self.id = f"{record.id}.{record.claim}" + ("" if claimed else ".unclaimed")
        #: Whether the ledger has given the job to this attempt.
        self.is_claimed = claimed
        #: Called by `begin`.
        self.on_begin: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None
        self.on_event: Callable[[Event], None] | None = None
        self.state = RunState.RUNNING
        #: Set when the run must stop early.
        self.stopping = threading.Event()
        #: Set in the two final states.
        self.over = threading.Event()
        self._terminal: str | None = None
        #: The fields of the record that change with the terminal event.
        self._end: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._outbox = outbox
        self._emitted: deque[_Emitted] = deque()
        #: The futures of the run's own appends that have no reply yet. Only the outbox's thread uses them.
        self._unanswered: deque[Future[Reply]] = deque()
        #: Why and since when the job's log has no new part of its result. Only the outbox's thread uses it.
        self._silence = record.silence
        #: The number of the attempt's next event. Only the outbox's thread uses it.
        self._next_number = record.events + 1
        #: The producers whose events wait until `release`; None after it.
        self._held: dict[EventProducer, None] | None = None
        self._begun = False
        if claimed:
            outbox.begin(record)
        else:
            self._held = {}

    @property
    def outcome(self) -> str | None:
        """The type of the terminal event, or "abandoned"; None while the run goes on."""
        return "abandoned" if self.state is RunState.ABANDONED else self._terminal

    @property
    def end_facts(self) -> dict[str, object]:
        """The facts of the end for the log: the tokens or frames of the answer, and the code of an error."""
        usage, error = self._end.get("usage") or {}, self._end.get("error") or {}
        return {
            "tokens": usage.get("completion_tokens"),
            "frames": usage.get("frames"),
            "code": error.get("code"),
        }

    def begin(self) -> None:
        """Make sure that the job belongs to this run, by `on_begin`, whose errors are raised.

        The lane calls this before the runner. If the run is not claimed yet, the runner calls it instead, as
        soon as it has nothing else to do.
        """
        if not self._begun:
            self.on_begin()
            self._begun = True

    def confirm(self, record: Record) -> None:
        """Note that the ledger has given the job to this attempt, with this record."""
        self.record, self.is_claimed = record, True
        self._silence, self._next_number = record.silence, record.events + 1
        self._outbox.begin(record)
        if self.over.is_set():  # abandoned meanwhile
            self._outbox.unconfirmed.forget(record.claim or "")

    def release(self) -> None:
        """Let the events go that have waited."""
        with self._lock:
            held, self._held = self._held, None
        if held:
            self._outbox.put(urgent=held)

    def holds_back(self, producer: EventProducer) -> bool:
        """Return whether the producer's events must wait. `release` then puts it into the outbox."""
        if self._held is None:
            return False
        with self._lock:
            if self._held is not None:
                self._held[producer] = None
            return self._held is not None

    def emit(
        self, *events: Event, increments: Mapping[str, int] = NO_INCREMENTS, **fields: Any
    ) -> "Future[Reply]":
        """Have the outbox log the events at once. `fields` of the record change together with them.

        The `increments` of metrics count together with the events, exactly once. They need an event.
        Return a future of the ledger's reply, which is "stale" if the run takes no more events. A call
        without events is useful, too: after its reply, `stopping` tells whether the client has canceled the
        job.
        """
        values, reply = json_fields(**fields), Future[Reply]()
        with self._lock:
            accepted = self._accepts(events, fields)
            if accepted:
                self._emitted.append(_Emitted(events, increments, values, reply))
        if accepted:
            self._outbox.put(urgent=[self])
        else:
            reply.set_result("stale")
        return reply

    def next_append(
        self, *events: Event, increments: Mapping[str, int] = NO_INCREMENTS, **fields: Any
    ) -> Append | None:
        """Return the events, numbered, as the attempt's next append; None if the run takes no more events.

        For the arguments see `emit`.

        Another producer of the attempt calls this in its `drain`, and so only in the outbox's thread. It must
        return every append that it gets here: a missing one would leave a gap in the numbers.
        """
        values = json_fields(**fields)
        with self._lock:
            if not self._accepts(events, fields):
                return None
        return self._number(events, increments, values)

    def drain(self) -> Sequence[Append]:
        """Return the appends of what was emitted since the last call (`EventProducer`)."""
        if self.holds_back(self):
            return []
        with self._lock:  # `abandon` may take them instead
            emitted = [*self._emitted]
            self._emitted.clear()
        self._unanswered.extend(each.reply for each in emitted)
        return [self._number(each.events, each.increments, each.fields) for each in emitted]

    def on_reply(self, append: Append, reply: Reply) -> None:
        """Act on the ledger's reply to one of the run's own appends (`EventProducer`)."""
        self.act_on(append, reply)
        self._unanswered.popleft().set_result(reply)  # last, so that `stopping` is set before

    def act_on(self, append: Append, reply: Reply) -> None:
        """Act on the ledger's reply to any append of the attempt."""
        if self.on_event and reply != "stale":
            for event in append.events:
                self.on_event(event)
        if reply == "ended":
            self._finish(RunState.OVER)
        elif reply == "stale":
            self.abandon()
        elif reply == "cancel":
            self.stop()

    def fail(self, code: str, message: str) -> None:
        """End the job as `failed`."""
        self.emit(Failed(code, message), error={"code": code, "message": message})

    def stop(self) -> None:
        """Ask the runner to stop. It then ends the job as `canceled`, unless the run has been abandoned."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.on_stop()

    def abandon(self) -> None:
        """Log no more events, and stop: the job no longer belongs to this attempt."""
        if self._finish(RunState.ABANDONED):
            self._outbox.unconfirmed.forget(self.record.claim or "")
            with self._lock:
                refused = [] if self.is_claimed else [*self._emitted]
                if refused:
                    self._emitted.clear()
            for each in refused:
                each.reply.set_result("stale")
            self.stop()

    def _finish(self, state: RunState) -> bool:
        """Enter a final state. Return False if the run is in one already."""
        with self._lock:
            if self.over.is_set():
                return False
            self.state = state
            self.over.set()
            return True

    def _accepts(self, events: Sequence[Event], fields: dict[str, Any]) -> bool:
        """Return whether the events may still be logged; note a terminal event. Needs the lock."""
        if self.state is not RunState.RUNNING:
            return False
        if events and events[-1].terminal:
            self.state, self._terminal, self._end = RunState.ENDING, events[-1].type, fields
        return True

    def _number(
        self, events: Sequence[Event], increments: Mapping[str, int], fields: dict[str, Any]
    ) -> Append:
        first = self._next_number
        self._next_number += len(events)
        if self._silence and any(isinstance(event, (AnswerEvent, Batch)) for event in events):
            increments = self._add_silence(increments, *self._silence)
            self._silence = None
        claim, attempt = self.record.claim or "", self.record.attempt
        return Append(self.record.id, claim, attempt, first, self._outbox.time(), events, fields, increments)

    def _add_silence(self, increments: Mapping[str, int], reason: str, since: float) -> Mapping[str, int]:
        """Return the increments with the time for which the job's log has been silent until now."""
        found, gap_s = Increments(increments), self._outbox.time() - since
        found.observe(RESUME_GAP_SECONDS, gap_s, self.record.queue, reason)
        return found
