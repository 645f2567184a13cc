"""API keys: creation, storage, checks, scopes, last use, expiry, rotation and revocation."""

import re
import time
import zlib
from collections.abc import Callable

import pytest
from redis.exceptions import OutOfMemoryError

from tests.support.docs import ROOT
from webapi.keys import key_text
from webapi.keys.key_changes import KeyChanges
from webapi.keys.keys import Keys
from worker.jobs.errors import KeyNotFound, KeyRevoked, MistypedKey, Unauthorized
from worker.jobs.ledger.ledger import Ledger

DAY_S = 86_400
Clock = Callable[[float], None]


@pytest.fixture
def keys(ledger: Ledger) -> Keys:
    return Keys(ledger.store)


@pytest.fixture
def pass_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set the clock of Redis and the monotonic one forward by this many seconds."""

    def forward(seconds: float) -> None:
        for module, name in ((ledger.store.clock, "now"), (time, "monotonic")):
            then = getattr(module, name)() + seconds
            monkeypatch.setattr(module, name, lambda then=then: then)

    return forward


def secret_of(text: str) -> str:
    return key_text.parse(text)[1]


def refusal(keys: Keys, text: str) -> str:
    """Check that the key is refused, and return the message."""
    with pytest.raises(Unauthorized) as refused:
        keys.check(text)
    return str(refused.value)


def test_keys_create_returns_a_valid_key_with_its_id_in_its_text(keys: Keys) -> None:
    assert not keys.any()
    new = keys.create("ci", max_waiting=7, max_running=2, expires_s=60)
    assert keys.any()
    assert re.fullmatch(rf"sk-stoker-{new.key.id}-[\w-]{{43}}[0-9A-Za-z]{{6}}", new.text)
    assert keys.check(new.text) == keys.valid(new.key.id) == keys.get(new.key.id) == new.key
    assert (new.key.name, new.key.max_waiting, new.key.max_running, new.key.state) == ("ci", 7, 2, "valid")
    assert (new.key.scopes, new.key.last_used_at) == (("submit", "read"), None)
    assert new.key.expires_at == pytest.approx(time.time() + 60, abs=30)


def test_keys_stores_a_hash_instead_of_the_secret(keys: Keys, ledger: Ledger) -> None:
    new = keys.create("ci", max_waiting=7, scopes=["read"])
    stored = ledger.store.client.hgetall(ledger.store.key("key", new.key.id))
    assert stored.keys() == {"name", "hash", "created_at", "max_waiting", "scopes"}
    assert (stored["max_waiting"], stored["scopes"]) == ("7", "read")
    assert secret_of(new.text) not in str(stored) + str(KeyChanges(ledger.store).list()) + repr(new)
    assert ledger.store.client.smembers(ledger.store.key("keys")) == {new.key.id}


def test_keys_check_refuses_all_bad_keys_alike(keys: Keys) -> None:
    mine, other = keys.create("mine"), keys.create("other")
    unknown = key_text.text_of("0" * 12, secret_of(other.text))
    wrong = key_text.text_of(mine.key.id, secret_of(other.text))
    longer = mine.text + "A"
    assert len({refusal(keys, text) for text in ("", "x", "é" * 70, unknown, wrong, longer)}) == 1


def test_keys_check_compares_an_unknown_id_as_long_as_a_known_one(ledger: Ledger) -> None:
    compared: list[tuple[int, int]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    keys = Keys(ledger.store, compare=compare)
    text = keys.create("ci").text
    known = keys.rotate(keys.check(text).id, grace_s=60, expires_s=None).text
    for known_or_not in (known, text):
        compared.clear()
        keys.check(known_or_not)
        assert compared == [(64, 64), (64, 64)]
    compared.clear()
    refusal(keys, key_text.text_of("0" * 12, secret_of(text)))
    assert compared == [(64, 64), (64, 64)]


def test_key_text_ends_with_the_crc32_of_the_rest_in_base62() -> None:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for secret in ("A" * 43, "-_" * 21 + "z"):
        text = key_text.text_of("6f0c1d2e3a4b", secret)
        number = 0
        for digit in text[-6:]:
            number = number * 62 + digits.index(digit)
        assert number == zlib.crc32(text[:-6].encode())
        assert key_text.parse(text) == ("6f0c1d2e3a4b", secret)


@pytest.mark.parametrize("place", [10, 21, 23, 40, 65, 66, 71])
def test_keys_check_refuses_a_mistyped_key_without_redis(keys: Keys, ledger: Ledger, place: int) -> None:
    text = keys.create("ci").text
    wrong = text[:place] + ("1" if text[place] == "0" else "0") + text[place + 1 :]
    ledger.store.close()
    ledger.store.client.connection_pool.connection_kwargs["port"] = 1
    with pytest.raises(MistypedKey):
        keys.check(wrong)


def test_keys_check_accepts_a_key_of_the_first_release(keys: Keys, ledger: Ledger) -> None:
    """Such a key has neither a checksum, nor an expiry, nor scopes."""
    new = keys.create("old")
    ledger.store.client.hdel(ledger.store.key("key", new.key.id), "scopes")
    old = keys.check(new.text[:-6])
    assert (old.scopes, old.expires_at, old.state) == (("submit", "read", "metrics"), None, "valid")


def test_security_page_has_the_pattern_of_keys(keys: Keys) -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    [pattern] = re.findall(r"^sk-stoker-\[.*$", page, re.MULTILINE)
    text = keys.create("ci").text
    assert re.findall(pattern, f'key = "{text}"\n') == [text]


def test_keys_note_use_stores_at_most_one_use_a_minute(
    keys: Keys, ledger: Ledger, pass_time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, other = keys.create("ci").key.id, keys.create("other").key.id
    assert keys.note_use(key_id)
    used_at = keys.get(key_id).last_used_at or 0.0
    assert used_at == pytest.approx(time.time(), abs=30)
    assert keys.note_use(other)
    pass_time(59)
    assert not keys.note_use(key_id)
    assert keys.get(key_id).last_used_at == used_at
    pass_time(2)
    assert keys.note_use(key_id)
    assert keys.get(key_id).last_used_at == pytest.approx(used_at + 61, abs=30)


def test_keys_note_use_survives_a_redis_that_stores_nothing(
    keys: Keys, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, log_messages: Callable[[], list[str]]
) -> None:
    def full(*_: object) -> None:
        raise OutOfMemoryError("OOM")

    key_id = keys.create("ci").key.id
    monkeypatch.setattr(ledger.store.client, "hset", full)
    assert keys.note_use(key_id)
    assert log_messages() == [f"key {key_id}: its last use was not stored: OOM"]


def test_keys_rotate_keeps_the_key_and_both_secrets_until_the_grace_ends(
    keys: Keys, pass_time: Clock
) -> None:
    first = keys.create("ci", scopes=["read"], max_waiting=7, expires_s=10 * DAY_S)
    second = keys.rotate(first.key.id, grace_s=DAY_S, expires_s=20 * DAY_S)
    for text in (first.text, second.text):
        key = keys.check(text)
        assert (key.id, key.scopes, key.max_waiting) == (first.key.id, ("read",), 7)
        assert key.expires_at == pytest.approx(time.time() + 20 * DAY_S, abs=30)
    pass_time(DAY_S + 1)
    refusal(keys, first.text)
    assert keys.check(second.text) == second.key
    keys.rotate(first.key.id, grace_s=0, expires_s=None)
    refusal(keys, second.text)
    assert keys.get(first.key.id).expires_at is None


def test_keys_rotate_twice_ends_the_first_secret(keys: Keys) -> None:
    first = keys.create("ci")
    second, third = (keys.rotate(first.key.id, grace_s=DAY_S, expires_s=None) for _ in range(2))
    refusal(keys, first.text)
    assert keys.check(second.text) == keys.check(third.text) == third.key


def test_keys_rotate_does_not_revive_an_expired_secret(keys: Keys, pass_time: Clock) -> None:
    first = keys.create("ci", expires_s=60)
    pass_time(61)
    second = keys.rotate(first.key.id, grace_s=DAY_S, expires_s=DAY_S)
    refusal(keys, first.text)
    assert keys.check(second.text) == second.key


def test_keys_rotate_refuses_unknown_and_revoked_keys(keys: Keys) -> None:
    new = keys.create("ci")
    keys.revoke(new.key.id)
    with pytest.raises(KeyRevoked, match=f"key {new.key.id} is revoked"):
        keys.rotate(new.key.id, grace_s=0, expires_s=None)
    with pytest.raises(KeyNotFound, match="there is no key nobody"):
        keys.rotate("nobody", grace_s=0, expires_s=None)


def test_keys_revoke_refuses_all_secrets_and_keeps_the_api_closed(keys: Keys) -> None:
    new = keys.create("ci")
    rotated = keys.rotate(new.key.id, grace_s=DAY_S, expires_s=None)
    revoked = keys.revoke(new.key.id)
    assert revoked.state == "revoked"
    assert keys.revoke(new.key.id) == revoked
    for text in (new.text, rotated.text):
        refusal(keys, text)
    with pytest.raises(Unauthorized):
        keys.valid(new.key.id)
    assert keys.any()
    with pytest.raises(KeyNotFound, match="there is no key nobody"):
        keys.revoke("nobody")


def test_keys_check_refuses_an_expired_key(keys: Keys, pass_time: Clock) -> None:
    new = keys.create("ci", expires_s=60)
    pass_time(61)
    refusal(keys, new.text)
    assert keys.get(new.key.id).state == "expired"


def test_keys_list_is_oldest_first(keys: Keys) -> None:
    made = [keys.create(name).key for name in "cab"]
    assert keys.list() == made


def test_key_changes_are_recorded_oldest_first(keys: Keys, ledger: Ledger) -> None:
    key_id = keys.create("ci").key.id
    keys.rotate(key_id, grace_s=0, expires_s=None)
    keys.revoke(key_id)
    found = KeyChanges(ledger.store).list()
    assert [change.action for change in found] == ["key_created", "key_rotated", "key_revoked"]
    assert {(change.key, change.name) for change in found} == {(key_id, "ci")}
    assert all(re.fullmatch(r"\d+@.+", change.by) for change in found)
    assert found[0].time == pytest.approx(time.time(), abs=30)


def test_key_changes_keep_the_newest_ten_thousand(ledger: Ledger) -> None:
    changes = KeyChanges(ledger.store)
    with ledger.store.client.pipeline() as pipe:
        for number in range(10_200):
            changes.add(pipe, "key_created", str(number), "ci")
        pipe.execute()
    kept = changes.list()
    assert 10_000 <= len(kept) < 10_200
    assert kept[-1].key == "10199"
