"""A real S3 server, moto's, in a process of its own; it keeps what it has in memory."""

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

START_S = 30.0
#: Never set: the pause between two tries to connect.
PAUSE = threading.Event()


class S3Server:
    """The server: on one port, however often it is started."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._port = int(server.getsockname()[1])

    @property
    def environment(self) -> Mapping[str, str]:
        """What its clients' libraries must know; they give up soon, for tests to be short."""
        return {
            "AWS_ENDPOINT_URL": f"http://localhost:{self._port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def start(self) -> None:
        """Empty but for the bucket `media`."""
        command = [sys.executable, "-m", "moto.server", "-p", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while True:
            try:
                httpx.put(f"{self.environment['AWS_ENDPOINT_URL']}/media").raise_for_status()
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                PAUSE.wait(0.02)
            else:
                return

    def stop(self) -> None:
        """With all that it has."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Connections are refused; it comes back empty."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
