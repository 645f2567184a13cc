"""A limit on the log lines that requests without a valid key can cause, so that they cannot fill the disk."""

import logging
from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["LineBudget", "LogLimiter", "limit"]

#: Lines of one kind that are logged at once, and lines of one kind a minute after them.
BURST, PER_MINUTE = 10, 10


@dataclass(slots=True)
class _Bucket:
    lines: float
    filled_at: float
    left_out: int = 0


class LineBudget:
    """A limited number of lines of each kind."""

    def __init__(self, burst: int = BURST, per_minute: float = PER_MINUTE) -> None:
        self._burst = burst
        self._per_s = per_minute / 60
        self._buckets: dict[Hashable, _Bucket] = {}

    def take(self, kind: Hashable, now: float) -> int | None:
        """Return how many lines of this kind were left out before this one, or None to leave this one out.

        `now` is the time in seconds, of any clock.
        """
        bucket = self._buckets.setdefault(kind, _Bucket(self._burst, now))
        passed_s = max(0.0, now - bucket.filled_at)
        bucket.lines = min(self._burst, bucket.lines + passed_s * self._per_s)
        bucket.filled_at = now
        if bucket.lines < 1:
            bucket.left_out += 1
            return None
        bucket.lines -= 1
        left_out, bucket.left_out = bucket.left_out, 0
        return left_out


class LogLimiter(logging.Filter):
    """A filter that passes a limited number of lines of each kind. Lines of one statement are of one kind.

    A line that follows others that were left out tells how many they were.
    """

    def __init__(self, burst: int = BURST, per_minute: float = PER_MINUTE) -> None:
        super().__init__()
        self._budget = LineBudget(burst, per_minute)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        left_out = self._budget.take((record.pathname, record.lineno), record.created)
        if left_out:
            record.msg = f"{record.msg} ({left_out} more lines of this kind were left out)"
        return left_out is not None


def limit(*names: str) -> None:
    """Limit the lines of the loggers with these names from now on. Their child loggers are not limited."""
    for logger in map(logging.getLogger, names):
        logger.filters[:] = [each for each in logger.filters if not isinstance(each, LogLimiter)]
        logger.addFilter(LogLimiter())
