"""The fetching of several messages with one command."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

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


def test_command_of_a_busy_consumer_waits_only_shortly(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "BUSY_WAIT_S", 0.1)
    counts = []
    for busy in (False, True):
        before = calls(settings, "brpop")
        with consuming(settings, [], free_slots=1) as connection:
            connection.default_channel.is_busy = lambda busy=busy: busy  # type: ignore[attr-defined]
            end = time.monotonic() + 0.8
            while time.monotonic() < end:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.2)
            counts.append(calls(settings, "brpop") - before)
    assert counts[0] <= 1 < 3 <= counts[1]


def test_stopped_fetching_puts_messages_back_while_the_connection_is_open(settings: Settings) -> None:
    """A worker that drains keeps its connection. Nothing reads from it any more."""
    with (
        Redis.from_url(settings.broker_url) as client,
        Connection(celery_url(settings.broker_url)) as connection,
    ):
        channel: Any = connection.default_channel
        consumer = connection.Consumer(Queue(f"{settings.prefix}-letters", no_ack=True), channel=channel)
        consumer.consume()
        connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]
        put(settings, "a")
        eventually(
            lambda: client.llen(f"{settings.prefix}-letters") == 0, "a server that has sent the message"
        )
        consumer.cancel()
        channel.stop_fetching()
        assert client.llen(f"{settings.prefix}-letters") == 1
        put(settings, "b")
        assert client.llen(f"{settings.prefix}-letters") == 2
        channel.stop_fetching()  # a second call does nothing


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
