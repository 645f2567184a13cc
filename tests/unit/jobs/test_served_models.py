"""The models that are available: those with a worker, and for a while those whose last worker has left."""

import pytest

from worker.jobs.cards import ModelCard, WorkerCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore

QUEUE = "chat.tiny"
WORKER = WorkerCard("w1", "chat", "host", 1, "cpu", "tiny", "fake", QUEUE, 1, 0)
LEASE_S, GRACE_S = 100.0, 1000.0


@pytest.fixture
def store(ledger: Ledger) -> RedisStore:
    settings = ledger.store.settings.replace(lease_ttl_s=LEASE_S, model_grace_s=GRACE_S)
    return RedisStore(settings, ledger.store.client)


@pytest.fixture
def registry(store: RedisStore) -> Registry:
    registry = Registry(store)
    registry.publish_model(ModelCard("tiny", "chat", QUEUE))
    return registry


def see(store: RedisStore, seconds_ago: float) -> None:
    """Make the model one that was last seen so long ago."""
    seconds, _ = store.client.time()
    store.client.zadd(store.key("models", "seen"), {QUEUE: seconds - seconds_ago})


def lose_worker(store: RedisStore) -> None:
    """End the lease of the worker, as if it had been killed long ago."""
    store.client.zadd(store.key("workers"), {WORKER.name: 1})


def test_model_is_served_when_it_is_published_and_while_a_worker_lives(
    store: RedisStore, registry: Registry
) -> None:
    assert [card.name for card in registry.served_models()] == ["tiny"]
    see(store, 1e6)
    assert registry.served_models() == []
    registry.renew(WORKER)  # it is still loading the model
    assert set(registry.served_queues()) == {QUEUE}


def test_adapters_are_models_as_long_as_their_model_has_them(registry: Registry) -> None:
    registry.publish_model(ModelCard("tiny", "chat", QUEUE, 64, "1", adapters=("sql", "de")))
    base, sql, de = registry.served_models()
    assert (base.name, base.parent) == ("tiny", None)
    assert [card.name for card in (sql, de)] == ["sql", "de"]
    assert {(card.parent, card.queue, card.context_length, card.adapters) for card in (sql, de)} == {
        ("tiny", QUEUE, 64, ())
    }
    registry.publish_model(ModelCard("tiny", "chat", QUEUE))
    assert [card.name for card in registry.served_models()] == ["tiny"]


@pytest.mark.parametrize(
    ("seconds_ago", "served"),
    [(0, True), (LEASE_S + GRACE_S - 60, True), (LEASE_S + GRACE_S + 60, False)],
)
def test_model_stays_for_a_grace_after_the_lease_of_its_last_worker(
    store: RedisStore, registry: Registry, seconds_ago: float, served: bool
) -> None:
    registry.renew(WORKER)
    lose_worker(store)
    see(store, seconds_ago)
    assert (set(registry.served_queues()) == {QUEUE}) == served
    assert [card.name for card in registry.models()] == ["tiny"]


def test_model_seen_in_the_future_needs_a_worker(store: RedisStore, registry: Registry) -> None:
    see(store, -600)  # Redis' clock was set back
    assert set(registry.served_queues()) == set()
    registry.renew(WORKER)
    assert set(registry.served_queues()) == {QUEUE}


def test_model_of_a_worker_of_an_older_version_is_served(store: RedisStore, registry: Registry) -> None:
    registry.renew(WORKER)
    store.client.delete(store.key("models", "seen"))
    assert set(registry.served_queues()) == {QUEUE}
    lose_worker(store)
    assert set(registry.served_queues()) == set()


def test_model_without_end_of_its_grace_stays(store: RedisStore, registry: Registry) -> None:
    see(store, 1e6)
    patient = Registry(RedisStore(store.settings.replace(model_grace_s=1e9), store.client))
    assert set(patient.served_queues()) == {QUEUE}
