"""One API key without its secret, and the scopes that it can have."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = ["ALL_SCOPES", "DEFAULT_SCOPES", "Key", "KeyState", "NewKey", "Scope"]

#: What a key may do. docs/security.md describes each scope.
Scope = Literal["submit", "read", "metrics", "admin"]
KeyState = Literal["valid", "expired", "revoked"]

ALL_SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: tuple[Scope, ...] = ("submit", "read")
#: The scopes of keys that were made before there were scopes.
_FIRST_SCOPES = "submit,read,metrics"

_OPTIONAL = {
    "expires_at": float,
    "last_used_at": float,
    "max_waiting": int,
    "max_running": int,
    "revoked_at": float,
}


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret. Its `id` is the owner of the jobs sent with it.

    Times are in seconds since the epoch, by the clock of Redis. `state` is that at the time of reading.
    """

    id: str
    name: str
    created_at: float
    scopes: tuple[str, ...]
    state: KeyState
    expires_at: float | None = None
    #: The last use that was stored. A process stores at most one use of a key a minute.
    last_used_at: float | None = None
    #: Limits on this key's waiting and running jobs, in addition to those of the settings.
    max_waiting: int | None = None
    max_running: int | None = None
    revoked_at: float | None = None

    @classmethod
    def from_hash(cls, key_id: str, fields: Mapping[str, str], now: float) -> "Key":
        """Return the key with this id and these fields of its Redis hash, as it is at the time `now`."""
        given: dict[str, Any] = {
            name: kind(fields[name]) for name, kind in _OPTIONAL.items() if name in fields
        }
        scopes = tuple(fields.get("scopes", _FIRST_SCOPES).split(","))
        expired = given.get("expires_at", math.inf) <= now
        state: KeyState = "revoked" if "revoked_at" in given else "expired" if expired else "valid"
        return cls(key_id, fields["name"], float(fields["created_at"]), scopes, state, **given)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with a new secret, and its text. The text cannot be recovered later."""

    key: Key
    text: str = field(repr=False)
