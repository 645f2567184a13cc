"""The metrics of all processes in Redis."""

from collections.abc import Mapping
from itertools import chain
from typing import cast

from worker.jobs.ledger.store import RedisStore

__all__ = ["MetricsStore"]


class MetricsStore:
    """The counters and histograms in Redis, as `worker.jobs.metrics` describes their fields.

    Most are raised by the script that logs what they count. These methods raise `RedisError`.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._key = store.key("metrics")

    def add(self, increments: Mapping[str, int], process: str, number: int) -> None:
        """Add the increments of a process in one step. `number` counts its calls, from 1.

        A call may be repeated after an error with the same number and increments. It counts once.
        """
        args = chain.from_iterable(increments.items())
        self._store.scripts.eval("add_metrics", self._store.settings.prefix, process, number, *args)

    def read(self) -> dict[str, str]:
        """Return the values of all fields."""
        return cast("dict[str, str]", self._store.client.hgetall(self._key))
