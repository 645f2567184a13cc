"""The uptime of Redis as one process sees it. Recovery needs it to decide which workers are lost."""

__all__ = ["RedisUptime"]


class RedisUptime:
    """The time for which this process has been in touch with Redis without a break.

    While Redis is away, no worker can renew its lease. So a process that has just reached Redis again, or
    that was suspended, must not treat a worker as lost until all workers have had time to renew. Times are
    those of Redis' own clock, because leases use it, and because it goes on while this machine sleeps.
    """

    def __init__(self, longest_break_s: float) -> None:
        self._longest_break_s = longest_break_s
        self._since: float | None = None
        self._last = 0.0

    def note_reply(self, now: float) -> None:
        """Record that Redis has answered at this time. A pause longer than `longest_break_s` is a break."""
        if self._since is None or now - self._last > self._longest_break_s:
            self._since = now
        self._last = now

    def note_failure(self) -> None:
        """Record that Redis has not answered."""
        self._since = None

    @property
    def seconds(self) -> float:
        """The seconds from the first answer after the last break to the latest answer."""
        return 0.0 if self._since is None else self._last - self._since
