"""A limit on the log lines that requests without a valid key can cause, so that they cannot fill the disk."""

import logging
from dataclasses import dataclass

__all__ = ["LogLimiter", "limit"]

#: Lines of one kind that are logged at once, and lines of one kind a minute after them.
BURST, PER_MINUTE = 10, 10


@dataclass(slots=True)
class _Bucket:
    lines: float
    filled_at: float
    left_out: int = 0


class LogLimiter(logging.Filter):
    """A filter that passes a limited number of lines of each kind. Lines of one statement are of one kind.

    A line that follows others that were left out tells how many they were.
    """

    def __init__(self, burst: int = BURST, per_minute: float = PER_MINUTE) -> None:
        super().__init__()
        self._burst = burst
        self._per_s = per_minute / 60
        self._buckets: dict[tuple[str, int], _Bucket] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        kind = record.pathname, record.lineno
        bucket = self._buckets.setdefault(kind, _Bucket(self._burst, record.created))
        passed_s = max(0.0, record.created - bucket.filled_at)
        bucket.lines = min(self._burst, bucket.lines + passed_s * self._per_s)
        bucket.filled_at = record.created
        if bucket.lines < 1:
            bucket.left_out += 1
            return False
        bucket.lines -= 1
        if bucket.left_out:
            record.msg = f"{record.msg} ({bucket.left_out} more lines of this kind were left out)"
            bucket.left_out = 0
        return True


def limit(*names: str) -> None:
    """Limit the lines of the loggers with these names from now on. Their child loggers are not limited."""
    for logger in map(logging.getLogger, names):
        logger.filters[:] = [each for each in logger.filters if not isinstance(each, LogLimiter)]
        logger.addFilter(LogLimiter())
