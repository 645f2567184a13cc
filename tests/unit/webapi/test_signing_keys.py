"""Signing keys: one for each owner and purpose, the same in every process."""

import base64
import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor

from webapi.keys.signing_keys import SigningKeys
from worker.jobs.ledger.ledger import Ledger


def test_signing_keys_differ_by_owner_and_purpose(ledger: Ledger) -> None:
    signing_keys = SigningKeys(ledger.store)
    keys = [signing_keys.webhook_key(owner) for owner in ("", "a", "b", "token")]
    raw = [base64.b64decode(key.removeprefix("whsec_"), validate=True) for key in keys]
    assert len({*raw, signing_keys.token_key}) == 5
    assert {len(key) for key in raw} == {32}
    root = bytes.fromhex(str(ledger.store.client.get(ledger.store.key("secret"))))
    assert len(root) == 32
    assert raw[1] == hmac.digest(root, b"webhook:a", hashlib.sha256)


def test_signing_keys_agree_between_concurrent_first_uses(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: SigningKeys(ledger.store).webhook_key("a"), range(32)))
    assert len(keys) == 1


def test_signing_keys_change_when_redis_loses_the_secret(ledger: Ledger) -> None:
    signing_keys = SigningKeys(ledger.store)
    before = signing_keys.token_key
    assert SigningKeys(ledger.store).token_key == before
    ledger.store.client.delete(ledger.store.key("secret"))
    assert signing_keys.token_key != before
