"""Keys, stream tokens and times in answers on a host whose clock is wrong: only the clock of Redis counts."""

import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie

import pytest

from tests.support.clocks import host_clock_ahead
from tests.support.job_ids import A
from tests.support.ledger import QUEUE
from webapi.app import create_app
from webapi.auth.stream_tokens import COOKIE
from webapi.documents.jobs import TokenDocument
from webapi.keys.key_changes import KeyChanges
from webapi.keys.keys import Keys
from worker.jobs.errors import Unauthorized
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

TWO_DAYS_S = 2 * 86_400
CLOCKS = pytest.mark.parametrize(
    ("maker_s", "checker_s"), [(-TWO_DAYS_S, 0), (TWO_DAYS_S, 0), (0, -TWO_DAYS_S), (0, TWO_DAYS_S)]
)


@CLOCKS
def test_keys_of_a_host_whose_clock_is_wrong(ledger: Ledger, maker_s: float, checker_s: float) -> None:
    began, maker, checker = time.time(), Keys(ledger.store), Keys(RedisStore(ledger.store.settings))
    with host_clock_ahead(maker_s):
        old = maker.create("ci", expires_s=600)
        maker.rotate(old.key.id, grace_s=300, expires_s=600)
        short = maker.create("short", expires_s=0)
    with host_clock_ahead(checker_s):
        checker.note_use(old.key.id)
        key = checker.check(old.text)
        with pytest.raises(Unauthorized):
            checker.check(short.text)
        revoked = checker.revoke(old.key.id)
    [change, *_] = KeyChanges(ledger.store).list()
    times = [key.created_at, key.last_used_at, (key.expires_at or 0) - 600, revoked.revoked_at, change.time]
    assert times == [pytest.approx(began, abs=120)] * 5


@CLOCKS
def test_stream_token_of_a_host_whose_clock_is_wrong(
    settings: Settings, ledger: Ledger, maker_s: float, checker_s: float
) -> None:
    began, new = time.time(), Keys(ledger.store).create("me", scopes=["read"])
    ledger.submit(A, QUEUE, validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]}), new.key.id)
    ledger.cancel(A)
    maker, checker = (create_app(settings.replace(token_s=300)).test_client() for _ in range(2))
    with host_clock_ahead(maker_s):
        answer = maker.post(f"/v1/jobs/{A}/token", headers={"Authorization": f"Bearer {new.text}"})
    token = TokenDocument.model_validate_json(answer.data)
    expires_at = datetime.fromisoformat(token.expires_at).timestamp()
    cookie = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    for at in (expires_at, parsedate_to_datetime(cookie["expires"]).timestamp()):
        assert at == pytest.approx(began + 300, abs=120)
    with host_clock_ahead(checker_s):
        assert checker.get(token.events).status_code == 200


def test_redis_clock_follows_jumps_of_redis_and_none_of_the_host(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, began, ticks = ledger.store.clock, time.time(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: ticks)
    assert clock.now() == pytest.approx(began, abs=120)
    for jump_s in (-600, 600):
        with monkeypatch.context() as patch, host_clock_ahead(TWO_DAYS_S):
            patch.setattr(ledger.store.client, "time", lambda jump_s=jump_s: (int(began) + jump_s, 0))
            ticks += 11  # the next look
            assert clock.now() == pytest.approx(began + jump_s, abs=1)
            ticks += 9
            assert clock.now() == pytest.approx(began + jump_s + 9, abs=1)
