"""Announcements: who waits for one is woken, whatever happens to the connection."""

from pathlib import Path

import pytest

from tests.support.stack import WAIT_S, eventually
from tests.support.valkey import restartable_valkey
from worker.jobs.cards import ModelCard
from worker.jobs.ledger import announcements
from worker.jobs.ledger.announcements import Announcements
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings


def subscribed(store: RedisStore, *topic: str) -> Announcements:
    found = Announcements(store, *topic)
    found.start()
    assert found.wait(WAIT_S), "the subscription counts as an announcement"
    return found


def test_wait_ends_with_the_announcement_of_a_model(ledger: Ledger) -> None:
    models, others = subscribed(ledger.store, "models"), subscribed(ledger.store, "batches")
    Registry(ledger.store).publish_model(ModelCard("m", "chat", "chat.m"))
    assert models.wait(WAIT_S)
    assert not models.wait(0)
    assert not others.wait(0)


def test_wait_ends_with_a_wake_of_this_process(ledger: Ledger) -> None:
    found = Announcements(ledger.store, "models")
    found.wake()
    assert found.wait(WAIT_S)
    assert not found.wait(0)


def test_new_subscription_counts_as_announcement(tmp_path: Path) -> None:
    with restartable_valkey(tmp_path) as server:
        store = RedisStore(Settings(home=tmp_path, redis_url=server.connection_url))
        found = subscribed(store, "models")
        server.stop()
        server.start()
        assert found.wait(WAIT_S)
        assert eventually(lambda: store.client.publish(found.channel, ""), "a subscription")
        store.close()


def test_silent_connection_is_checked_and_kept(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "CHECK_S", 0.01)
    ledger.store.client.connection_pool.connection_kwargs["health_check_interval"] = 0.001
    found = subscribed(ledger.store, "models")
    before = pings(ledger)
    eventually(lambda: pings(ledger) > before + 3, "checks")
    assert not found.wait(0), "the subscription was made again"


def pings(ledger: Ledger) -> int:
    stats = ledger.store.client.info("commandstats")
    return int(stats.get("cmdstat_ping", {"calls": 0})["calls"])
