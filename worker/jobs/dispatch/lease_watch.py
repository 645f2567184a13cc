"""The watch over the leases of all workers, by which recovery decides which workers are lost."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["LeaseWatch"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A lease as it was seen last: its end, since when it has been the same, and how long it may stay so."""

    end: float
    since: float
    patience_s: float


class LeaseWatch:
    """Measures on this process' monotonic clock for how long each worker has not renewed its lease.

    The clock of Redis, in which leases are stored, may be set forward or back, and after a failover it is
    another clock. A change of the stored end is a renewal, whatever the time in it.

    While Redis is away, no worker can renew its lease. So after a break, and after this process was
    suspended, all workers get the time of a whole lease again.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        #: The time of the last look.
        self._looked_at = clock()

    def note(self, leases: Mapping[str, tuple[float, float]], longest_pause_s: float) -> None:
        """Take a look at all leases: for each worker the stored end, and the seconds until then.

        A pause since the last look that is longer than `longest_pause_s` is a break.
        """
        now = self._clock()
        if now - self._looked_at > longest_pause_s:
            self.note_failure()
        self._looked_at = now
        self._seen = {worker: self._next(worker, *lease) for worker, lease in leases.items()}

    def _next(self, worker: str, end: float, left_s: float) -> _Seen:
        last = self._seen.get(worker)
        if last is None:
            return _Seen(end, self._looked_at, self._lease_s)
        if last.end == end:
            return last
        return _Seen(end, self._looked_at, max(self._lease_s, left_s))  # its leases may be longer than ours

    def note_failure(self) -> None:
        """Note that Redis has not answered."""
        self._seen.clear()

    def lost(self) -> Mapping[str, float]:
        """Return the workers that have not renewed their lease in time or gave it up, with its stored end."""
        return {
            worker: seen.end
            for worker, seen in self._seen.items()
            if seen.end == 0 or self._looked_at - seen.since >= seen.patience_s
        }
