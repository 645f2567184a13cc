"""The clock of Redis, by which all times of jobs are measured, because the clocks of hosts can differ."""

import time

import redis
from redis.exceptions import RedisError

__all__ = ["RedisClock"]

#: Seconds between two looks at the clock of Redis. In between, the monotonic clock of this process counts on.
LOOK_S = 10.0


class RedisClock:
    """The clock of Redis as one process knows it. Times are in seconds since the epoch."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        #: The clock of Redis minus the monotonic clock; None before the first look.
        self._ahead_s: float | None = None
        self._next_look_at = 0.0

    def read(self) -> float:
        """Ask Redis for its time. Raises `RedisError`."""
        began = time.monotonic()
        seconds, microseconds = self._redis.time()
        now, ended = float(seconds + microseconds / 1e6), time.monotonic()
        self._ahead_s, self._next_look_at = now - (began + ended) / 2, ended + LOOK_S
        return now

    def now(self) -> float:
        """Return the time of Redis, mostly without asking for it.

        While Redis is away the time goes on. Raises `RedisError` if Redis has been away since the start.
        """
        if self._ahead_s is None:
            return self.read()
        if time.monotonic() >= self._next_look_at:
            self._next_look_at = time.monotonic() + LOOK_S  # first, so that other threads do not ask, too
            try:
                return self.read()
            except RedisError:
                pass  # a later call looks again
        return time.monotonic() + self._ahead_s
