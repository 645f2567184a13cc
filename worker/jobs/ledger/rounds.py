"""The rounds of background tasks: each process may do a task, and in each interval one of them does."""

import time

from worker.jobs.ledger.store import RedisStore

__all__ = ["Rounds"]


class Rounds:
    """The rounds that one process may take.

    It remembers when the next round of each task begins, and does not ask Redis before.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        #: Task → the time at which its next round begins, by the monotonic clock.
        self._next_at: dict[str, float] = {}

    def take(self, task: str, seconds: float) -> bool:
        """Return True to only one process in this many seconds, and False to all others."""
        now = time.monotonic()
        if now < self._next_at.get(task, now):
            return False
        interval_ms = max(1, int(seconds * 1000))
        left_ms = self._store.scripts.eval("take_round", self._store.settings.prefix, task, interval_ms)
        self._next_at[task] = now + (interval_ms if left_ms < 0 else left_ms) / 1000
        return bool(left_ms < 0)
