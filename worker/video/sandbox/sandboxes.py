"""The sandboxes of a worker, which its fork server starts and ends."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from threading import Lock, Thread
from typing import IO

from worker.jobs.errors import EngineDied
from worker.jobs.limits import Limits
from worker.jobs.media.probe.confinement import bare_environment
from worker.video.sandbox.channel import Channel
from worker.video.sandbox.sandbox import Sandbox

__all__ = ["Sandboxes"]

log = logging.getLogger(__name__)

#: The longest line of a sandbox. A longer one is logged in parts.
_MAX_LINE_BYTES = 4096


class Sandboxes:
    """A fork server, and the sandboxes that it has forked.

    `program` is the module that the fork server runs. It is called with the number of a file: the server's
    end of the control socket. When this process ends in any way, even by SIGKILL, the kernel closes the other
    end. Then the server kills its sandboxes and ends.

    `gpu` are the variables of the environment with which sandboxes find a GPU, if they may use one. The
    program then has a second argument, `gpu`.
    """

    def __init__(self, program: str, gpu: Mapping[str, str] | None = None) -> None:
        self._program = program
        self._gpu = gpu
        self._lock = Lock()

    def start(self) -> None:
        """Start the fork server, and do not wait until it is ready.

        It gets nothing else of this process's environment, which holds secrets.
        """
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(  # noqa: S603  # its arguments are our own
                [
                    sys.executable,
                    "-m",
                    self._program,
                    str(theirs.fileno()),
                    *(["gpu"] if self._gpu is not None else []),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                # numpy would start a thread for each core, and a process with threads must not fork.
                env=bare_environment() | {"OPENBLAS_NUM_THREADS": "1"} | dict(self._gpu or {}),
                start_new_session=True,
            )
        Thread(target=_log_lines, args=[self._server.stderr], name="sandbox-log", daemon=True).start()

    @contextmanager
    def sandbox(self, limits: Limits, check: Callable[[], None]) -> Iterator[Sandbox]:
        """Yield a new sandbox for one clip. It is killed when the block ends.

        Raises `EngineDied` if the fork server has ended.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.settimeout(None)  # Celery sets a default timeout for all new sockets while it stops
        with ours:
            with theirs:
                pid = self._request(json.dumps(asdict(limits)).encode(), [theirs.fileno()])
            sandbox = Sandbox(Channel(ours), check)
            try:
                yield sandbox
            finally:
                sandbox.close()
                self._request(pid)

    def stop(self) -> None:
        """End the fork server."""
        self._control.close()
        self._server.wait()

    def _request(self, request: bytes, connections: Sequence[int] = ()) -> bytes:
        """Send a request to the fork server, and return its answer."""
        with self._lock:
            try:
                socket.send_fds(self._control, [request], connections)
                answer = self._control.recv(100)
            except OSError:
                answer = b""
        if not answer:
            raise EngineDied("the process that starts the readers of clips has ended")
        return answer


def _log_lines(stderr: IO[bytes]) -> None:
    """Log what the sandboxes print, until the last one has ended."""
    with stderr:
        while line := stderr.readline(_MAX_LINE_BYTES):
            log.warning("%s", line.decode(errors="replace").rstrip())
