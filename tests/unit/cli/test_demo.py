"""Tests of the API key that `make demo` uses."""

from webapi.cli.demo import KEY_NAME, _api_key
from webapi.keys.keys import Keys
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings


def test_demo_needs_no_key_while_there_is_none(settings: Settings, ledger: Ledger) -> None:
    assert _api_key(settings) is None
    assert not Keys(ledger.store).any()


def test_demo_uses_the_key_of_the_user(settings: Settings, ledger: Ledger) -> None:
    theirs = Keys(ledger.store).create("me").text
    assert _api_key(settings.replace(api_key=theirs)) == theirs


def test_demo_has_one_short_lived_key_of_its_own_once_a_key_exists(
    settings: Settings, ledger: Ledger
) -> None:
    keys = Keys(ledger.store)
    keys.create("me")
    first, second = (_api_key(settings) or "" for _ in range(2))
    own = keys.check(second)
    assert (own.name, [key.name for key in keys.list()]) == (KEY_NAME, ["me", KEY_NAME])
    assert own.expires_at is not None
    assert first != second
    keys.revoke(own.id)
    assert keys.check(_api_key(settings) or "").id != own.id
