"""The metrics of all processes in Redis."""

from collections.abc import Mapping
from typing import cast

from worker.jobs.ledger.store import RedisStore

__all__ = ["MetricsStore"]


class MetricsStore:
    """The counters and histograms in Redis, as `worker.jobs.metrics` describes their fields.

    Most are raised by the script that logs what they count. These methods raise `RedisError`.
    """

    def __init__(self, store: RedisStore) -> None:
        self._redis = store.client
        self._key = store.key("metrics")

    def add(self, increments: Mapping[str, int]) -> None:
        """Add the increments in one step. A repeat after an error may count them twice."""
        with self._redis.pipeline() as pipe:
            for field, amount in increments.items():
                pipe.hincrby(self._key, field, amount)
            pipe.execute()

    def read(self) -> dict[str, str]:
        """Return the values of all fields."""
        return cast("dict[str, str]", self._redis.hgetall(self._key))
