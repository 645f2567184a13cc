"""The clock of Redis, by which all times of jobs are measured, because the clocks of hosts can differ."""

import time
from contextlib import suppress

import redis
from redis.exceptions import RedisError

__all__ = ["RedisClock"]

#: Seconds between two looks at the clock of Redis. In between, the monotonic clock of this process counts on.
LOOK_S = 10.0
#: Looks at the start. The first one also connects, which takes longer than an answer.
LOOKS = 3


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
        # The true value lies between these two. The last one stays if it may be true. So no time is earlier
        # than one before it, unless the clock of Redis is set back.
        least, most = now - ended, now - began
        self._ahead_s = least if self._ahead_s is None else min(max(self._ahead_s, least), most)
        self._next_look_at = ended + LOOK_S
        return now

    def now(self) -> float:
        """Return the time of Redis, mostly without asking for it.

        While Redis is away the time goes on. Raises `RedisError` if Redis has been away since the start.
        """
        if self._ahead_s is None:
            for _ in range(LOOKS):
                self.read()
        if time.monotonic() >= self._next_look_at:
            self._next_look_at = time.monotonic() + LOOK_S  # first, so that other threads do not ask, too
            with suppress(RedisError):  # a later call looks again
                self.read()
        return time.monotonic() + (self._ahead_s or 0.0)
