"""API keys: random, shown once, stored as hashes and checked in constant time."""

import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from redis.exceptions import RedisError

from webapi.keys import key_text
from webapi.keys.key import DEFAULT_SCOPES, Key, NewKey
from webapi.keys.key_changes import KeyChanges
from worker.jobs.errors import KeyNotFound, KeyRevoked, Unauthorized
from worker.jobs.ledger.store import RedisStore

__all__ = ["Keys"]

logger = logging.getLogger(__name__)

#: The stand-in for a hash that does not exist, so that the check of an unknown id takes as long as that of a
#: known one. No secret has this hash.
_NO_HASH = "-" * 64
#: Seconds between two uses of a key that one process stores.
_USE_EVERY_S = 60


class Keys:
    """The API keys in Redis.

    Keys are never deleted, so the API stays closed once a key exists. Only the clock of Redis decides what
    has expired. `compare` compares two hashes in a time that does not depend on their text. Every method
    raises `redis.exceptions.RedisError` when Redis is away, except for `note_use`. Changes raise
    `NotReplicated` if a failover could undo them: repeat them then.
    """

    def __init__(
        self, store: RedisStore, *, compare: Callable[[str, str], bool] = hmac.compare_digest
    ) -> None:
        self._compare = compare
        self._redis = store.client
        self._clock = store.clock
        self._replicas = store.replicas
        self._key = store.key
        self._hashes = store.hashes
        self._changes = KeyChanges(store)
        #: When this process last stored a use of each key, in seconds of the monotonic clock.
        self._noted: dict[str, float] = {}

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] = DEFAULT_SCOPES,
        max_waiting: int | None = None,
        max_running: int | None = None,
        expires_s: float | None = None,
    ) -> NewKey:
        """Create a key that is valid for `expires_s` seconds from now, or without limit if that is None."""
        key_id, secret, now = secrets.token_hex(6), key_text.make_secret(), self._clock.now()
        expires_at = None if expires_s is None else now + expires_s
        limits = {"expires_at": expires_at, "max_waiting": max_waiting, "max_running": max_running}
        given = {"name": name, "created_at": now, "scopes": ",".join(scopes), **limits}
        fields: dict[Any, str] = {field: str(value) for field, value in given.items() if value is not None}
        with self._redis.pipeline() as pipe:
            pipe.hset(self._redis_key(key_id), mapping=fields | {"hash": _hash(secret)})
            pipe.sadd(self._key("keys"), key_id)
            self._changes.add(pipe, "key_created", key_id, name)
            pipe.execute()
        self._replicas.confirm()
        return NewKey(Key.from_hash(key_id, fields, now), key_text.text_of(key_id, secret))

    def list(self) -> Sequence[Key]:
        """Return all keys, oldest first, including expired and revoked ones."""
        ids = sorted(cast("set[str]", self._redis.smembers(self._key("keys"))))
        found = self._hashes([self._redis_key(key_id) for key_id in ids])
        now = self._clock.now()
        keys = [Key.from_hash(key_id, fields, now) for key_id, fields in zip(ids, found, strict=True)]
        return sorted(keys, key=lambda key: key.created_at)

    def any(self) -> bool:
        """Return whether a key was ever created."""
        return bool(self._redis.scard(self._key("keys")))

    def get(self, key_id: str) -> Key:
        """Return the key with this id, whatever its state. Raises `KeyNotFound`."""
        return Key.from_hash(key_id, self._known(key_id), self._clock.now())

    def rotate(self, key_id: str, *, grace_s: float, expires_s: float | None) -> NewKey:
        """Give the key a new secret, valid for `expires_s` seconds, or without limit if that is None.

        The secret before it stays valid for `grace_s` seconds, but not longer than it would have been. A
        secret that an earlier rotation has replaced is refused from now on. The key keeps its id, so its
        jobs, limits and scopes stay. Raises `KeyNotFound` and `KeyRevoked`.
        """
        fields, secret, now = self._known(key_id), key_text.make_secret(), self._clock.now()
        if "revoked_at" in fields:
            raise KeyRevoked(f"key {key_id} is revoked")
        until = min(now + grace_s, float(fields.get("expires_at", math.inf)))
        changed: dict[Any, str] = {
            "hash": _hash(secret),
            "previous_hash": fields["hash"],
            "previous_until": str(until),
        }
        with self._redis.pipeline() as pipe:
            pipe.hset(self._redis_key(key_id), mapping=changed)
            if expires_s is None:
                pipe.hdel(self._redis_key(key_id), "expires_at")
            else:
                pipe.hset(self._redis_key(key_id), "expires_at", str(now + expires_s))
            self._changes.add(pipe, "key_rotated", key_id, fields["name"])
            pipe.execute()
        self._replicas.confirm()
        return NewKey(self.get(key_id), key_text.text_of(key_id, secret))

    def revoke(self, key_id: str) -> Key:
        """Revoke the key and return it. Jobs that it has submitted go on. Raises `KeyNotFound`."""
        key = self.get(key_id)
        with self._redis.pipeline() as pipe:
            pipe.hsetnx(self._redis_key(key_id), "revoked_at", str(self._clock.now()))
            self._changes.add(pipe, "key_revoked", key_id, key.name)
            pipe.execute()
        self._replicas.confirm()
        return self.get(key_id)

    def check(self, text: str) -> Key:
        """Return the valid key with this text.

        Raises `MistypedKey` without asking Redis if the checksum in the text is wrong, and else
        `Unauthorized` without a reason, so that a caller cannot learn which ids exist.
        """
        key_id, secret = key_text.parse(text)
        fields, given = self._fields(key_id), _hash(secret)
        current = self._compare(given, fields.get("hash", _NO_HASH))
        previous = self._compare(given, fields.get("previous_hash", _NO_HASH))
        if not current and not (previous and self._clock.now() < float(fields["previous_until"])):
            raise Unauthorized
        return self._valid(key_id, fields)

    def valid(self, key_id: str) -> Key:
        """Return the key with this id if it is valid. Raises `Unauthorized`."""
        return self._valid(key_id, self._fields(key_id))

    def note_use(self, key_id: str) -> bool:
        """Store that the key is used now, and return True.

        Do nothing and return False if this process did so less than a minute ago. If Redis cannot store it,
        the use is only logged: a Redis without memory must not keep a caller from reading and deleting.
        """
        now = time.monotonic()
        if now - self._noted.get(key_id, -math.inf) < _USE_EVERY_S:
            return False
        self._noted[key_id] = now
        try:
            self._redis.hset(self._redis_key(key_id), "last_used_at", str(self._clock.now()))
        except RedisError as error:
            logger.warning("key %s: its last use was not stored: %s", key_id, error)
        return True

    def _valid(self, key_id: str, fields: Mapping[str, str]) -> Key:
        if not fields or (key := Key.from_hash(key_id, fields, self._clock.now())).state != "valid":
            raise Unauthorized
        return key

    def _known(self, key_id: str) -> Mapping[str, str]:
        fields = self._fields(key_id)
        if not fields:
            raise KeyNotFound(f"there is no key {key_id}")
        return fields

    def _fields(self, key_id: str) -> Mapping[str, str]:
        return cast("Mapping[str, str]", self._redis.hgetall(self._redis_key(key_id)))

    def _redis_key(self, key_id: str) -> str:
        return self._key("key", key_id)


def _hash(secret: str) -> str:
    """Return the SHA-256 of the secret in hex. One round is enough: 32 random bytes cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()
