"""API keys: creation, storage, checks, expiry and revocation."""

import re
import time

import pytest

from webapi.services.keys import Keys
from worker.jobs.errors import KeyNotFound, Unauthorized
from worker.jobs.ledger.ledger import Ledger


@pytest.fixture
def keys(ledger: Ledger) -> Keys:
    return Keys(ledger)


def refusal(keys: Keys, text: str) -> str:
    """Check that the key is refused, and return the message."""
    with pytest.raises(Unauthorized) as refused:
        keys.check(text)
    return str(refused.value)


def test_keys_create_returns_a_valid_key_with_its_id_in_its_text(keys: Keys) -> None:
    assert not keys.any()
    new = keys.create("ci", max_waiting=7, max_running=2, expires_s=60)
    assert keys.any()
    assert re.fullmatch(rf"sk-stoker-{new.key.id}-[\w-]{{43}}", new.text)
    assert keys.check(new.text) == keys.valid(new.key.id) == keys.get(new.key.id) == new.key
    assert (new.key.name, new.key.max_waiting, new.key.max_running, new.key.state) == ("ci", 7, 2, "valid")
    assert new.key.expires_at == pytest.approx(time.time() + 60, abs=30)


def test_keys_stores_a_hash_instead_of_the_secret(keys: Keys, ledger: Ledger) -> None:
    new = keys.create("ci", max_waiting=7)
    secret = new.text[-43:]
    stored = ledger.redis.hgetall(ledger.key("key", new.key.id))
    assert stored.keys() == {"name", "hash", "created_at", "max_waiting"}
    assert stored["max_waiting"] == "7"
    assert secret not in str(stored)
    assert secret not in repr(new)
    assert ledger.redis.smembers(ledger.key("keys")) == {new.key.id}


def test_keys_check_refuses_all_bad_keys_alike(keys: Keys) -> None:
    mine, other = keys.create("mine"), keys.create("other")
    secret = other.text.removeprefix(f"sk-stoker-{other.key.id}-")
    unknown = f"sk-stoker-{'0' * 12}-{secret}"
    wrong = f"sk-stoker-{mine.key.id}-{secret}"
    longer = mine.text + "A"
    assert len({refusal(keys, text) for text in ("", "x", "é" * 70, unknown, wrong, longer)}) == 1


def test_keys_check_compares_an_unknown_id_as_long_as_a_known_one(ledger: Ledger) -> None:
    compared: list[tuple[int, int]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    keys = Keys(ledger, compare=compare)
    text = keys.create("ci").text
    keys.check(text)
    refusal(keys, f"sk-stoker-{'0' * 12}-{text[-43:]}")
    assert compared == [(64, 64), (64, 64)]


def test_keys_revoke_refuses_the_key_and_keeps_the_api_closed(keys: Keys) -> None:
    new = keys.create("ci")
    revoked = keys.revoke(new.key.id)
    assert revoked.state == "revoked"
    assert keys.revoke(new.key.id) == revoked
    refusal(keys, new.text)
    with pytest.raises(Unauthorized):
        keys.valid(new.key.id)
    assert keys.any()
    with pytest.raises(KeyNotFound, match="there is no key nobody"):
        keys.revoke("nobody")


def test_keys_check_refuses_an_expired_key(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    new = keys.create("ci", expires_s=60)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    refusal(keys, new.text)
    assert keys.get(new.key.id).state == "expired"


def test_keys_list_is_oldest_first(keys: Keys) -> None:
    made = [keys.create(name).key for name in "cab"]
    assert keys.list() == made
