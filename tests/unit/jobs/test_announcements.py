"""Announcements: who waits for one is woken, whatever happens to the connection."""

from pathlib import Path
from urllib.parse import urlsplit

from tests.support.proxy import HalfOpenProxy
from tests.support.stack import WAIT_S, eventually
from tests.support.valkey import restartable_valkey
from worker.jobs.cards import ModelCard
from worker.jobs.ledger.announcements import Announcements, Topic
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings


def subscribed(store: RedisStore, *names: str, check_s: float | None = None) -> list[Topic]:
    waiting = Announcements(store, check_s)
    topics = [waiting.topic(name) for name in names]
    waiting.start()
    for topic in topics:
        assert topic.wait(WAIT_S), "the subscription counts as an announcement"
    return topics


def test_wait_ends_with_the_announcement_of_a_model(ledger: Ledger) -> None:
    models, again, others = subscribed(ledger.store, "models", "models", "batches")
    Registry(ledger.store).publish_model(ModelCard("m", "chat", "chat.m"))
    assert models.wait(WAIT_S)
    assert again.wait(WAIT_S)
    assert not models.wait(0)
    assert not others.wait(0)


def test_wait_ends_with_a_wake_of_this_process(ledger: Ledger) -> None:
    found = Announcements(ledger.store).topic("models")
    found.wake()
    assert found.wait(WAIT_S)
    assert not found.wait(0)


def test_new_subscription_counts_as_announcement(tmp_path: Path) -> None:
    with restartable_valkey(tmp_path) as server:
        store = RedisStore(Settings(home=tmp_path, redis_url=server.connection_url))
        (found,) = subscribed(store, "models")
        server.stop()
        server.start()
        assert found.wait(WAIT_S)
        assert eventually(lambda: store.client.publish(found.channel, ""), "a subscription")
        store.close()


def test_silent_subscription_is_checked_and_kept(ledger: Ledger) -> None:
    (found,) = subscribed(ledger.store, "models", check_s=0.01)
    before = published(ledger)
    eventually(lambda: published(ledger) > before + 3, "checks")
    assert not found.wait(0), "the subscription was made again"


def test_subscription_that_gets_nothing_is_made_again(settings: Settings) -> None:
    port = int(urlsplit(settings.broker_url).port or 0)
    with HalfOpenProxy(port) as proxy:
        store = RedisStore(settings.replace(redis_url=f"redis://127.0.0.1:{proxy.port}/0"))
        (found,) = subscribed(store, "models", check_s=0.1)
        proxy.cut_off()
        assert found.wait(WAIT_S), "another subscription"
        store.close()


def published(ledger: Ledger) -> int:
    stats = ledger.store.client.info("commandstats")
    return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])
