"""gunicorn's gevent worker, with limits on what clients may hold open."""

import gc
import logging
import uuid
from contextlib import suppress
from typing import Any

from gevent import get_hub
from gunicorn.workers.ggevent import GeventWorker

from webapi.server import ready_poll
from webapi.server.address_counts import AddressCounts
from webapi.server.paced_socket import PacedSocket
from webapi.services import request_ids
from worker.jobs.logs import context
from worker.jobs.settings import Settings

__all__ = ["Worker"]

log = logging.getLogger(__name__)

#: Bytes that are read at once and thrown away.
_BLOCK_BYTES = 2**20
#: Seconds that a refused client gets to send its request, so that it also reads the answer.
_REFUSAL_S = 1.0
_REFUSAL = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\nX-Request-Id: %s\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 49\r\n\r\n"
    b"Too many connections are open from your address.\n"
)


class Worker(GeventWorker):  # type: ignore[misc]
    """A worker whose connections have deadlines on progress and a cap an address. The settings tell which."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = settings = Settings.from_env()
        self._addresses = AddressCounts(settings.max_connections_per_address, settings.trusted_proxies)

    def patch(self) -> None:
        """Make the standard library work with gevent."""
        super().patch()
        ready_poll.install()

    def init_process(self) -> None:
        """Start to serve. From now on, an exception that ends a greenlet is logged."""
        vars(get_hub())["print_exception"] = _log_exception
        super().init_process()

    def run(self) -> None:
        """Serve until the process is told to end. Then add the last requests to the metrics."""
        gc.freeze()  # a collection of all that is loaded would stop all streams for 0.1 s
        super().run()
        # Without an import of `Backend`: gunicorn imports this module before gevent patches the libraries.
        self.wsgi.extensions["stoker"].requests.close()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection until it ends."""
        host = addr[0] if isinstance(addr, tuple) else ""
        with self._addresses.counted(host) as admitted:
            if admitted:
                paced = PacedSocket(client, self._settings.head_timeout_s, self._settings.stall_timeout_s)
                super().handle(listener, paced, addr)
            else:
                request_id = uuid.uuid4().hex
                with context.about(request_id=request_id):
                    self.log.warning("Too many connections from %s", host)
                _refuse(client, request_id)

    def handle_request(self, listener_name: Any, req: Any, sock: PacedSocket, addr: Any) -> None:
        """Serve a request whose head is complete, and read the rest of its body."""
        sock.start_request()
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            sock.end_request()
        if not getattr(req.body, "failed", False):  # else gunicorn closes the connection
            while req.body.read(_BLOCK_BYTES):
                pass
        sock.await_request()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer a request that gunicorn cannot read, or does not take, with an id of its own."""
        numbered = _Numbered(client, request_ids.begin())
        with context.about(error=type(exc).__name__):
            super().handle_error(req, numbered, addr, exc)


class _Numbered:
    """A connection whose next answer gets the header `X-Request-Id`. All else is the connection's own."""

    def __init__(self, connection: Any, request_id: str) -> None:
        self._connection = connection
        self._header = f"\r\n{request_ids.HEADER}: {request_id}\r\n".encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def sendall(self, data: bytes) -> None:
        """Send the answer, with the header behind its first line."""
        self._connection.sendall(data.replace(b"\r\n", self._header, 1))


def _log_exception(_context: object, kind: Any, error: Any, trace: Any) -> None:
    log.error("an exception ends a greenlet", exc_info=(kind, error, trace))


def _refuse(client: Any, request_id: str) -> None:
    with suppress(OSError):
        client.settimeout(_REFUSAL_S)
        client.sendall(_REFUSAL % request_id.encode())
        client.recv(_BLOCK_BYTES)  # a close with unread bytes could discard the answer
    client.close()
