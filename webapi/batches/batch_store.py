"""The batches of all API keys in Redis."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from redis.client import NEVER_DECODE

from webapi.batches.batch import Batch, Status
from worker.jobs.errors import BatchNotFound, FileNotKept, IdempotencyConflict, QueueFull
from worker.jobs.ledger.store import RedisStore

__all__ = ["BatchStore"]


class BatchStore:
    """The batches. Each change is one atomic step that may be repeated. Methods raise `RedisError`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._redis = store.client

    def create(self, batch_id: str, owner: str, **fields: Any) -> None:
        """Record a new batch, or find the one that the same request has made before.

        Raises `FileNotKept` if the owner has no such input file, `QueueFull` if the owner has too many
        batches, and `IdempotencyConflict` if another request has made a batch with this id.
        """
        now, most = self._store.clock.now(), self._store.settings.max_batches_per_key
        given = {"status": "validating", "created_at": now, **fields}
        outcome = self._eval("create_batch", batch_id, owner, most, *_pairs(given))
        if outcome == "file":
            raise FileNotKept(f"there is no file {fields['input_file_id']}")
        if outcome == "full":
            raise QueueFull(f"an API key may have {most} unfinished batches", retry_after_s=60)
        if outcome == "differs":
            raise IdempotencyConflict("this Idempotency-Key came with another request before")

    def get(self, batch_id: str, owner: str | None = None) -> Batch:
        """Return the batch. With `owner`, it must belong to that key. Raises `BatchNotFound`."""
        fields = cast("dict[str, str]", self._redis.hgetall(self._key(batch_id)))
        if not fields or owner not in (None, fields["owner"]):
            raise BatchNotFound(f"there is no batch {batch_id}")
        return Batch(batch_id, fields)

    def list(self, owner: str) -> Sequence[Batch]:
        """Return the owner's batches, newest first."""
        ids = self._redis.zrange(self._store.key("owner", owner, "batches"), 0, -1, desc=True)
        return list(self._load(cast("list[str]", ids)))

    def unfinished(self) -> Sequence[Batch]:
        """Return the batches of all owners that need work, oldest first."""
        ids = self._redis.zrange(self._store.key("batches"), 0, -1)
        return list(self._load(cast("list[str]", ids)))

    def _load(self, ids: Sequence[str]) -> Iterator[Batch]:
        found = self._store.hashes([self._key(batch_id) for batch_id in ids])
        return (Batch(i, fields) for i, fields in zip(ids, found, strict=True) if fields)

    def change(self, batch: Batch, status: Status, **fields: Any) -> bool:
        """Give the batch this status and these fields, unless its status has changed meanwhile.

        The time of a new status is noted. Return whether the change was made.
        """
        at = None if status == batch.status else self._store.clock.now()
        given = {"status": status, f"{status}_at": at, **fields}
        return bool(self._eval("change_batch", batch.id, batch.status, *_pairs(given)))

    def parts(self, batch: Batch) -> Sequence[str]:
        """Return the names of the parts with the results of the batch so far."""
        return cast("list[str]", self._redis.lrange(self._key(batch.id, "parts"), 0, -1))

    def done(self, batch: Batch) -> bytes:
        """Return the bits of the requests that have a result. The first request has the highest bit."""
        found = self._redis.execute_command(  # type: ignore[no-untyped-call]
            "GET", self._key(batch.id, "done"), **{NEVER_DECODE: True}
        )
        return bytes(found or b"")

    def collect(
        self, batch: Batch, known: int, part: str, counts: Sequence[int], lines: Sequence[int]
    ) -> bool:
        """Add a part with the results of these requests. Return False if there are more parts than `known`.

        `counts` are the numbers of completed and failed requests, and of input, cached, output and reasoning
        tokens.
        """
        return bool(self._eval("collect_batch", batch.id, known, part, *counts, *lines))

    def close(self, batch: Batch) -> None:
        """Forget what only the run of the batch needs."""
        self._eval("close_batch", batch.id, self._store.settings.file_retention_s)

    def _eval(self, script: str, *args: Any) -> Any:
        return self._store.scripts.eval_replicated(script, self._store.settings.prefix, *args)

    def _key(self, *parts: str) -> str:
        return self._store.key("batch", *parts)


def _pairs(fields: dict[str, Any]) -> list[Any]:
    """Return the names and values of the fields that are not None. Dicts and lists become JSON."""
    return [
        each
        for name, value in fields.items()
        if value is not None
        for each in (name, json.dumps(value) if isinstance(value, dict | list) else value)
    ]
