"""A server with one thread, such as Redis or an API process."""

from collections import Counter

from simpy import Environment

__all__ = ["MOST", "Server"]

#: The largest share of a thread that background work takes. With more, the server falls behind.
MOST = 0.998


class Server:
    """A thread that serves one operation after another, in the order of their arrival.

    Background work is not simulated one by one. It takes the share `load` of the thread, so each operation
    takes 1/(1 - `load`) times its CPU time. An operation also waits `ahead_s` for work that comes more rarely
    if the server is busy. `cpu_s` and `round_trips` are sums by operation.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._free_at = 0.0
        self.load = self.ahead_s = 0.0
        self.cpu_s: Counter[str] = Counter()
        self.round_trips: Counter[str] = Counter()

    def serve(self, operation: str, cpu_s: float) -> float:
        """Take an operation now, and return the seconds until it is done."""
        self.book(operation, cpu_s, 1)
        now = self._env.now
        self._free_at = max(now, self._free_at) + cpu_s / (1 - min(self.load, MOST))
        return self._free_at - now + self.ahead_s

    def book(self, operation: str, cpu_s: float, round_trips: float) -> None:
        """Count CPU time and round trips of an operation that needs no turn of its own."""
        self.cpu_s[operation] += cpu_s  # type: ignore[assignment]
        self.round_trips[operation] += round_trips  # type: ignore[assignment]

    @property
    def total_s(self) -> float:
        """The CPU time of all operations so far."""
        return sum(self.cpu_s.values())
