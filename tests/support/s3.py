"""An S3 server for tests: moto's server, which keeps all objects in memory, in a child process."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

__all__ = ["S3Server"]

#: How long the server may take to start.
START_S = 30.0
#: Time between two attempts to connect to the starting server.
CONNECT_PAUSE_S = 0.02


class S3Server:
    """An S3 server that can be stopped and frozen. It keeps its port when it is started again."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._port = int(server.getsockname()[1])

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that clients need. They do not retry, which keeps the tests short."""
        return {
            "AWS_ENDPOINT_URL": f"http://localhost:{self._port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def start(self) -> None:
        """Start the server and create the empty bucket `media`."""
        command = [sys.executable, "-m", "moto.server", "-p", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while True:
            try:
                url = f"{self.environment['AWS_ENDPOINT_URL']}/media"
                httpx.put(url, timeout=START_S).raise_for_status()  # the server loads its code only now
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                threading.Event().wait(CONNECT_PAUSE_S)
            else:
                return

    def stop(self) -> None:
        """Kill the server. All its objects are lost."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server while the block runs, so that it refuses connections. Then start it, empty."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend the server while the block runs: it accepts connections but does not answer."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
