"""The changes of API keys, in a Redis stream that keeps the newest 10,000 of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from redis.client import Pipeline

from worker.jobs.ledger.store import RedisStore

__all__ = ["Action", "KeyChange", "KeyChanges"]

Action = Literal["key_created", "key_rotated", "key_revoked"]

#: Redis may keep some more, because it removes whole blocks of entries.
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One change of the key with the id `key`. `time` is in seconds since the epoch.

    `by` is the user who made it, as `<user id>@<host>`.
    """

    time: float
    action: str
    key: str
    name: str
    by: str


class KeyChanges:
    """The recorded changes of all keys."""

    def __init__(self, store: RedisStore) -> None:
        self._redis = store.client
        self._stream = store.key("audit")

    def add(self, pipe: Pipeline, action: Action, key_id: str, name: str) -> None:
        """Record a change in the transaction `pipe`, so that no change is made without its record."""
        by = f"{os.getuid()}@{os.uname().nodename}"
        change: dict[Any, Any] = {"action": action, "key": key_id, "name": name, "by": by}
        pipe.xadd(self._stream, change, maxlen=_KEPT, approximate=True)

    def list(self) -> Sequence[KeyChange]:
        """Return the changes, oldest first. Raises `redis.exceptions.RedisError` when Redis is away."""
        entries = cast("list[tuple[str, dict[str, str]]]", self._redis.xrange(self._stream))
        return [KeyChange(int(entry.partition("-")[0]) / 1000, **fields) for entry, fields in entries]
