"""Keys that sign webhooks and stream tokens, derived from one secret in Redis."""

import base64
import hashlib
import hmac
import secrets
from typing import cast

from worker.jobs.ledger.store import RedisStore

__all__ = ["SigningKeys"]


class SigningKeys:
    """Signing keys, one for each purpose, derived from a root secret of 32 random bytes.

    The root secret is created once, is kept in Redis beside the data that it protects, and is never shown. It
    is read for every derivation, so that all processes agree even after Redis has lost its data. Every method
    raises `redis.exceptions.RedisError` when Redis is away.
    """

    def __init__(self, store: RedisStore) -> None:
        self._redis = store.client
        self._key = store.key("secret")

    def webhook_key(self, owner: str) -> str:
        """Return the key, `whsec_…`, that signs the webhooks of this owner.

        The owner is the id of an API key, or empty for callers without a key.
        """
        return "whsec_" + base64.b64encode(self._derived(f"webhook:{owner}")).decode()

    @property
    def token_key(self) -> bytes:
        """The key that signs stream tokens."""
        return self._derived("token")

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._root_secret(), purpose.encode(), hashlib.sha256)

    def _root_secret(self) -> bytes:
        found = self._redis.get(self._key)
        if found is None:
            self._redis.set(self._key, secrets.token_hex(32), nx=True)  # the first of several processes wins
            found = self._redis.get(self._key)
        return bytes.fromhex(cast(str, found))
