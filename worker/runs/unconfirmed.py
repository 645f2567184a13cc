"""Appends that a failover of Redis may still lose, kept so that the worker can offer them again."""

import math
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from worker.jobs.ledger.appends import Append
from worker.jobs.records import Record

__all__ = ["Unconfirmed"]

#: Appends that are kept, about 30 MB of them. Beyond this number the oldest are dropped. A job that needs one
#: of these after a failover goes back to its queue.
MAX_KEPT = 50_000


@dataclass(slots=True)
class _Attempt:
    """The kept appends of one attempt, in their order, with the times of their acknowledgements.

    `record` is what the claim has returned. It is there as long as the claim itself may get lost.
    """

    record: Record | None = None
    appends: deque[tuple[Append, float]] = field(default_factory=deque)


class Unconfirmed:
    """The appends of all attempts, ended ones included, from their acknowledgement to their confirmation.

    Times are those of the monotonic clock. All methods may be called from any thread.
    """

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._kept = 0
        #: The attempts by the names of their claims, the oldest first.
        self._attempts: dict[str, _Attempt] = {}
        self._lock = threading.Lock()

    def begin(self, record: Record, now: float) -> None:
        """Keep the claim of an attempt, as an append without events behind its event."""
        time = record.claimed_at or 0.0
        claimed = Append(record.id, record.claim or "", record.attempt, record.events + 1, time, (), {})
        with self._lock:
            self._attempts[claimed.claim] = _Attempt(record)
        self.add([claimed], now)

    def add(self, appends: Iterable[Append], now: float) -> None:
        """Keep appends that Redis has acknowledged now."""
        with self._lock:
            for append in appends:
                attempt = self._attempts.get(append.claim)
                if attempt is None:
                    attempt = self._attempts[append.claim] = _Attempt()
                attempt.appends.append((append, now))
                self._kept += 1
            while self._kept > self._max_kept:
                self._drop_first(next(iter(self._attempts)))

    def confirmed(self, until: float) -> None:
        """Drop what was acknowledged before this time."""
        with self._lock:
            for claim, attempt in list(self._attempts.items()):
                while attempt.appends and attempt.appends[0][1] < until:
                    self._drop_first(claim)

    def forget(self, claim: str) -> None:
        """Drop an attempt that must not be continued."""
        with self._lock:
            if attempt := self._attempts.pop(claim, None):
                self._kept -= len(attempt.appends)

    def suspect_all(self) -> Sequence[str]:
        """Confirm nothing until it is acknowledged again. Return the claims of all attempts."""
        with self._lock:
            for attempt in self._attempts.values():
                attempt.appends = deque((append, math.inf) for append, _ in attempt.appends)
            return list(self._attempts)

    def acknowledged_again(self, claim: str, now: float) -> None:
        """Note that Redis has acknowledged all appends of the attempt now."""
        with self._lock:
            if attempt := self._attempts.get(claim):
                attempt.appends = deque((append, now) for append, _ in attempt.appends)

    def appends_of(self, claim: str) -> Sequence[Append]:
        """Return the kept appends of the attempt, in their order."""
        with self._lock:
            attempt = self._attempts.get(claim)
            return [append for append, _ in attempt.appends] if attempt else []

    def record_of(self, claim: str) -> Record | None:
        """Return what the claim has returned, or None if it is confirmed."""
        with self._lock:
            attempt = self._attempts.get(claim)
            return attempt.record if attempt else None

    def ended_jobs(self) -> set[str]:
        """Return the jobs whose end is kept."""
        with self._lock:
            last = [attempt.appends[-1][0] for attempt in self._attempts.values()]
            return {append.job_id for append in last if append.terminal}

    def _drop_first(self, claim: str) -> None:
        attempt = self._attempts[claim]
        attempt.appends.popleft()
        attempt.record = None
        self._kept -= 1
        if not attempt.appends:
            del self._attempts[claim]
