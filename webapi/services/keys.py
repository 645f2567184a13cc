"""API keys: random, shown once, stored as hashes and checked in constant time."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from worker.jobs.errors import KeyNotFound, Unauthorized
from worker.jobs.ledger.ledger import Ledger

__all__ = ["Key", "Keys", "NewKey"]

_TEXT = re.compile(r"sk-stoker-([0-9a-f]{12})-([A-Za-z0-9_-]{43})")
#: The stand-in for the hash of an unknown id, so that its check takes as long as that of a known id. No
#: secret has this hash.
_NO_HASH = "-" * 64
_OPTIONAL = {"expires_at": float, "max_waiting": int, "max_running": int, "revoked_at": float}


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret. Its `id` is the owner of the jobs sent with it.

    Times are in seconds since the epoch.
    """

    id: str
    name: str
    created_at: float
    expires_at: float | None = None
    #: Limits on this key's waiting and running jobs, in addition to those of the settings.
    max_waiting: int | None = None
    max_running: int | None = None
    revoked_at: float | None = None

    @property
    def state(self) -> str:
        """The state of the key now: `valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= time.time() else "valid"

    @classmethod
    def from_hash(cls, key_id: str, fields: Mapping[str, str]) -> "Key":
        """Return the key with this id and these fields of its Redis hash."""
        given: dict[str, Any] = {
            name: kind(fields[name]) for name, kind in _OPTIONAL.items() if name in fields
        }
        return cls(key_id, fields["name"], float(fields["created_at"]), **given)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just created, and its text. The text cannot be recovered later."""

    key: Key
    text: str = field(repr=False)


class Keys:
    """The API keys in the ledger's Redis.

    Keys are never deleted, so the API stays closed once a key exists. `compare` compares two hashes in a time
    that does not depend on their text. Every method raises `redis.exceptions.RedisError` when Redis is away.
    """

    def __init__(self, ledger: Ledger, *, compare: Callable[[str, str], bool] = hmac.compare_digest) -> None:
        self._compare = compare
        self._redis = ledger.redis
        self._key = ledger.key

    def create(
        self,
        name: str,
        *,
        max_waiting: int | None = None,
        max_running: int | None = None,
        expires_s: float | None = None,
    ) -> NewKey:
        """Create a key that is valid for `expires_s` seconds from now, or without limit if that is None."""
        key_id, secret, now = secrets.token_hex(6), secrets.token_urlsafe(32), time.time()
        expires_at = None if expires_s is None else now + expires_s
        limits = {"expires_at": expires_at, "max_waiting": max_waiting, "max_running": max_running}
        given = {"name": name, "created_at": now, **limits}
        fields: dict[Any, str] = {field: str(value) for field, value in given.items() if value is not None}
        with self._redis.pipeline() as pipe:
            pipe.hset(self._redis_key(key_id), mapping=fields | {"hash": _hash(secret)})
            pipe.sadd(self._key("keys"), key_id)
            pipe.execute()
        return NewKey(Key.from_hash(key_id, fields), f"sk-stoker-{key_id}-{secret}")

    def list(self) -> Sequence[Key]:
        """Return all keys, oldest first, including expired and revoked ones."""
        ids = sorted(cast("set[str]", self._redis.smembers(self._key("keys"))))
        with self._redis.pipeline(transaction=False) as pipe:
            for key_id in ids:
                pipe.hgetall(self._redis_key(key_id))
            found = pipe.execute() if ids else []
        keys = [Key.from_hash(key_id, fields) for key_id, fields in zip(ids, found, strict=True)]
        return sorted(keys, key=lambda key: key.created_at)

    def any(self) -> bool:
        """Return whether a key was ever created."""
        return bool(self._redis.scard(self._key("keys")))

    def get(self, key_id: str) -> Key:
        """Return the key with this id, whatever its state. Raises `KeyNotFound`."""
        fields = self._fields(key_id)
        if not fields:
            raise KeyNotFound(f"there is no key {key_id}")
        return Key.from_hash(key_id, fields)

    def revoke(self, key_id: str) -> Key:
        """Revoke the key and return it. Jobs that it has submitted go on. Raises `KeyNotFound`."""
        self.get(key_id)
        self._redis.hsetnx(self._redis_key(key_id), "revoked_at", str(time.time()))
        return self.get(key_id)

    def check(self, text: str) -> Key:
        """Return the valid key with this text.

        Raises `Unauthorized` without a reason, so that a caller cannot learn which ids exist.
        """
        parts = _TEXT.fullmatch(text)
        if parts is None:
            raise Unauthorized
        key_id, secret = parts.groups()
        fields = self._fields(key_id)
        same = self._compare(_hash(secret), fields.get("hash", _NO_HASH))
        return self._valid(key_id, fields if same else {})

    def valid(self, key_id: str) -> Key:
        """Return the key with this id if it is valid. Raises `Unauthorized`."""
        return self._valid(key_id, self._fields(key_id))

    @staticmethod
    def _valid(key_id: str, fields: Mapping[str, str]) -> Key:
        if not fields or (key := Key.from_hash(key_id, fields)).state != "valid":
            raise Unauthorized
        return key

    def _fields(self, key_id: str) -> Mapping[str, str]:
        return cast("Mapping[str, str]", self._redis.hgetall(self._redis_key(key_id)))

    def _redis_key(self, key_id: str) -> str:
        return self._key("key", key_id)


def _hash(secret: str) -> str:
    """Return the SHA-256 of the secret in hex. One round is enough: 32 random bytes cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()
