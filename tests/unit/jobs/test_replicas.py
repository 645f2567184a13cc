"""Writes that must be on a replica before a client hears of them."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisError

from tests.support.ledger import QUEUE, append_of, card
from tests.support.sentinel import SERVICE, running_group
from tests.support.stack import eventually
from tests.support.valkey import Pair, valkey_pair
from worker.jobs.errors import NotReplicated
from worker.jobs.events import Succeeded
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob

CHAT = ChatJob.model_validate({"messages": [{"role": "user", "content": "hello"}]})


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A primary with its replica."""
    with valkey_pair(tmp_path) as pair:
        yield pair


@pytest.fixture
def store(pair: Pair) -> Iterator[RedisStore]:
    """The store on the primary. A client may hear of a write when one replica has it."""
    url = f"{pair.primary.connection_url}/0"
    with closing(RedisStore(Settings(redis_url=url, redis_replicas=1, lease_ttl_s=2))) as store:
        yield store


def test_replicas_confirm_what_any_connection_has_written(store: RedisStore, pair: Pair) -> None:
    store.client.set("a", 1)
    store.replicas.confirm()
    pair.disconnect()
    with closing(RedisStore(Settings(redis_url=f"{pair.replica.connection_url}/0"))) as promoted:
        assert promoted.client.get("a") == "1"
    with pytest.raises(NotReplicated):
        store.replicas.confirm()
    pair.connect()
    store.replicas.confirm()


@pytest.mark.long
def test_submit_without_a_replica_is_not_confirmed(store: RedisStore, pair: Pair) -> None:
    ledger = Ledger(store)
    ledger.submit("a" * 32, QUEUE, CHAT)
    pair.disconnect()
    with pytest.raises(NotReplicated):
        ledger.submit("b" * 32, QUEUE, CHAT)
    pair.connect()
    assert ledger.submit("b" * 32, QUEUE, CHAT).job_id == "b" * 32  # the repeated request finds its job
    assert len(ledger.events("b" * 32)) == 1


@pytest.mark.long
def test_cancel_and_forget_without_a_replica_are_not_confirmed(store: RedisStore, pair: Pair) -> None:
    ledger, job = Ledger(store), "a" * 32
    ledger.submit(job, QUEUE, CHAT)
    pair.disconnect()
    with pytest.raises(NotReplicated):
        ledger.cancel(job)
    pair.connect()
    assert ledger.cancel(job) == "canceled"
    pair.disconnect()
    with pytest.raises(NotReplicated):
        ledger.forget(job)


@pytest.mark.long
def test_replicated_reader_shows_an_end_only_when_a_replica_has_it(store: RedisStore, pair: Pair) -> None:
    ledger, reader, job = Ledger(store), Ledger(store, replicated=True), "a" * 32
    ledger.submit(job, QUEUE, CHAT)
    Registry(store).renew(card("w"))
    record = ledger.claim(job, "w", "cpu")
    assert record is not None
    pair.disconnect()
    assert reader.get(job).state == "running"
    ledger.append([append_of(ledger, job, record.events + 1, [Succeeded({}, {})], {})])
    for read in (reader.get, reader.events):
        with pytest.raises(NotReplicated):
            read(job)
    assert ledger.get(job).state == "succeeded"
    pair.connect()
    assert reader.get(job).state == reader.events(job)[-1].type == "succeeded"


def test_replicas_confirm_nothing_that_a_primary_writes_after_its_replacement(tmp_path: Path) -> None:
    """Sentinels replace a primary that is alive. For a second it goes on with the other replica."""
    with running_group(tmp_path) as running:
        group, confirmed = running.group, list[str]()
        settings = Settings(redis_url=group.url, redis_replicas=1, lease_ttl_s=2)
        with closing(RedisStore(settings)) as store:
            store.client.set("caught-up", "")
            eventually(lambda: store.client.wait(2, 100) == 2, "two replicas that have caught up")
            old = group.primary()
            with closing(redis.Redis(port=group.sentinels[0])) as sentinel:
                sentinel.sentinel_failover(SERVICE)
            eventually(lambda: write(store, confirmed) and group.primary() not in (None, old), "a failover")
            assert {*confirmed} <= {*store.client.lrange("written", 0, -1)}


def write(store: RedisStore, confirmed: list[str]) -> bool:
    """Write a text, and add it to `confirmed` if it is. Return whether it is."""
    text = uuid.uuid4().hex
    try:
        store.replicas.run(lambda pipe: pipe.rpush("written", text))
    except (NotReplicated, RedisError):
        return False
    confirmed.append(text)
    return True
