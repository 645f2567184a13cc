"""The fetching of several messages with one command."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kombu import Connection, Queue
from redis import Redis

from tests.support.stack import eventually
from worker.jobs.broker import celery_url
from worker.jobs.connection import fetching
from worker.jobs.settings import Settings


@contextmanager
def consuming(settings: Settings, received: list[str], free_slots: int) -> Iterator[Connection]:
    """Yield a connection that consumes the queue "letters" into `received`."""
    with Connection(celery_url(settings.broker_url)) as connection:
        channel = connection.default_channel
        channel.free_slots = lambda: free_slots  # type: ignore[attr-defined]
        queue = Queue(f"{settings.prefix}-letters", no_ack=True)
        with connection.Consumer(queue, channel=channel, callbacks=[lambda body, _: received.append(body)]):
            yield connection


def put(settings: Settings, *texts: str) -> None:
    with Connection(celery_url(settings.broker_url)) as connection:
        queue = connection.SimpleQueue(f"{settings.prefix}-letters")
        for text in texts:
            queue.put(text)


def calls(settings: Settings, command: str) -> int:
    with Redis.from_url(settings.broker_url) as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_one_command_takes_a_quarter_of_the_free_slots_in_order(settings: Settings) -> None:
    put(settings, *"abcdef")
    received: list[str] = []
    with consuming(settings, received, free_slots=16) as connection:
        connection.drain_events(timeout=5)
        assert received == [*"abcd"]
        connection.drain_events(timeout=5)
    assert received == [*"abcdef"]


@pytest.mark.parametrize("free_slots", [1, 7])
def test_few_free_slots_take_one_message(settings: Settings, free_slots: int) -> None:
    put(settings, *"ab")
    received: list[str] = []
    with consuming(settings, received, free_slots) as connection:
        connection.drain_events(timeout=5)
    assert received == ["a"]


def test_burst_is_taken_with_few_commands(settings: Settings) -> None:
    put(settings, *map(str, range(64)))
    received, before = list[str](), calls(settings, "blmpop")
    with consuming(settings, received, free_slots=256) as connection:
        while len(received) < 64:
            connection.drain_events(timeout=5)
    assert received == [*map(str, range(64))]
    assert calls(settings, "blmpop") - before <= 3  # the last one may wait for more


def test_old_server_gives_one_message_at_a_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "COMMAND", "UNKNOWN_TO_THIS_SERVER")
    put(settings, *"abc")
    received: list[str] = []
    with consuming(settings, received, free_slots=16) as connection:
        while len(received) < 3:
            connection.drain_events(timeout=5)
    assert received == [*"abc"]


def test_close_puts_back_all_messages_of_a_batch(settings: Settings) -> None:
    put(settings, *"abc")
    with (
        Redis.from_url(settings.broker_url) as client,
        Connection(celery_url(settings.broker_url)) as connection,
    ):
        connection.default_channel.free_slots = lambda: 16  # type: ignore[attr-defined]
        consumer = connection.Consumer(Queue(f"{settings.prefix}-letters", no_ack=True))
        consumer.consume()
        connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]
        eventually(
            lambda: client.llen(f"{settings.prefix}-letters") == 0, "a server that has sent the messages"
        )
        consumer.cancel()
        connection.close()
        assert client.llen(f"{settings.prefix}-letters") == 3
