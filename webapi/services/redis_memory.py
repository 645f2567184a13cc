"""The memory of Redis, which must have room before the API takes another job."""

import time

from worker.jobs.errors import NotReady
from worker.jobs.ledger.store import RedisStore

__all__ = ["RedisMemory"]

#: Seconds between two looks at Redis.
POLL_S = 1.0
#: The part of `maxmemory` that jobs may fill. The rest is for the events of jobs that run.
USABLE = 0.9


class RedisMemory:
    """Looks at the memory of Redis, at most once in `POLL_S`.

    At `maxmemory` Redis refuses the events of running jobs, too. So new jobs are refused before that.
    """

    def __init__(self, store: RedisStore) -> None:
        self._redis = store.client
        self._next_look_at = 0.0
        self._full = False

    def check_room(self) -> None:
        """Raise `NotReady` if Redis has little room left. A Redis without `maxmemory` has room."""
        if time.monotonic() >= self._next_look_at:
            self._next_look_at = time.monotonic() + POLL_S  # first, so that other requests do not look, too
            memory = self._redis.info("memory")
            self._full = 0 < memory["maxmemory"] * USABLE < memory["used_memory"]
        if self._full:
            raise NotReady("The job store is almost full; try again when jobs have been deleted.")
