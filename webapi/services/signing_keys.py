"""The secret: what this Stoker signs with, made once and kept in Redis beside what it protects."""

import base64
import hashlib
import hmac
import secrets
from typing import cast

from worker.jobs.ledger.ledger import Ledger

__all__ = ["SigningKeys"]


class SigningKeys:
    """Keys for one purpose each, derived from 32 random bytes that nobody is shown.

    They are read anew each time, so that all processes agree even when Redis has lost its data. Raises
    `redis.exceptions.RedisError` when Redis is away.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._key = ledger.key("secret")

    def webhook_key(self, owner: str) -> str:
        """What the webhooks of this API key (empty: of callers without one) are signed with, `whsec_…`."""
        return "whsec_" + base64.b64encode(self._derived(f"webhook:{owner}")).decode()

    @property
    def token_key(self) -> bytes:
        """What stream tokens are signed with."""
        return self._derived("token")

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._root_secret(), purpose.encode(), hashlib.sha256)

    def _root_secret(self) -> bytes:
        found = self._redis.get(self._key)
        if found is None:
            self._redis.set(self._key, secrets.token_hex(32), nx=True)  # the first of several wins
            found = self._redis.get(self._key)
        return bytes.fromhex(cast(str, found))
