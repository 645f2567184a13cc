"""Celery's connection to Redis."""

import subprocess
from pathlib import Path

import pytest
from kombu import Connection
from redis import Redis
from redis.exceptions import RedisError

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


def test_celery_gets_other_urls_unchanged() -> None:
    assert celery_url("rediss://:secret@host:6380/3") == "rediss://:secret@host:6380/3"
