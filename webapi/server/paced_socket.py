"""A client's connection that ends when the client keeps the server waiting."""

import errno
import time
from typing import Any, Literal

import gevent
from gunicorn.http.errors import LimitRequestHeaders

from worker.jobs.errors import ClientTooSlow

__all__ = ["MAX_HEAD_BYTES", "MIN_BYTES_PER_S", "TURN_BYTES", "PacedSocket"]

#: Largest head of a request. gunicorn limits its lines only, to 0.8 MB together.
MAX_HEAD_BYTES = 2**16

#: Slowest average rate of a client that sends a body or reads a response, in bytes per second.
MIN_BYTES_PER_S = 16 * 1024
#: Bytes after which other clients have their turn.
TURN_BYTES = 2**16
#: Shortest timeout of an operation, in seconds. With 0 the socket would not block.
_SHORTEST_S = 0.001


class PacedSocket:
    """A connection with deadlines on progress. Everything else is the connection's own.

    - A head must be complete `head_s` seconds after its first byte, and the first head of a connection that
      long after the connection was accepted. Between two requests the connection may be idle.
    - While a request is served, the client may keep the server waiting for `stall_s` seconds. Each byte that
      it sends or reads earns time at `MIN_BYTES_PER_S`. Time in which the server waits for something else
      does not count, so a stream without events may stay open.
    - The rest of a body that was not read must arrive `head_s` seconds after the response.

    A fast client never makes the server wait. Other clients have a turn after each `TURN_BYTES` all the same.
    """

    def __init__(self, connection: Any, head_s: float, stall_s: float) -> None:
        self._connection = connection
        self._head_s = head_s
        self._stall_s = self._patience_s = stall_s
        self._reads: Literal["head", "body", "rest of body"] = "head"
        self._head_bytes = 0
        self._late = False
        self._bytes_in_turn = 0
        #: When the current head, or the rest of a body, must be complete. None if none of a head has arrived.
        self._due: float | None = time.monotonic() + head_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def start_request(self) -> None:
        """Begin to serve a request whose head is complete."""
        self._reads, self._patience_s = "body", self._stall_s

    def end_request(self) -> None:
        """Begin to read the rest of the request's body, after the response."""
        self._reads, self._due = "rest of body", time.monotonic() + self._head_s

    def await_request(self) -> None:
        """Begin to wait for the next head."""
        self._reads, self._due, self._head_bytes = "head", None, 0

    def recv(self, size: int) -> bytes:
        """Return the next bytes of a head or a body.

        Raises `ClientTooSlow` for a body, and `LimitRequestHeaders` for a head above `MAX_HEAD_BYTES`. If a
        head, or the rest of a body, is late, it returns no bytes from then on, as if the client had closed
        the connection.
        """
        if self._reads == "body":
            return self._recv_body(size)
        return self._recv_head(size) if self._reads == "head" else self._recv_in_time(size)

    def send(self, data: Any) -> int:
        """Send some of the data and return how much. Raises `BrokenPipeError` if the client is too slow."""
        started = self._start()
        try:
            sent = int(self._connection.send(data))
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client does not read the response") from None
        self._account(started, sent)
        return sent

    def sendall(self, data: Any) -> None:
        """Send all of the data. Raises `BrokenPipeError` if the client is too slow."""
        left = memoryview(data)
        while left:
            left = left[self.send(left) :]

    def _recv_head(self, size: int) -> bytes:
        data = self._recv_in_time(size)
        if self._due is None:
            self._due = time.monotonic() + self._head_s
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise LimitRequestHeaders("limit request head size")
        return data

    def _recv_in_time(self, size: int) -> bytes:
        left_s = None if self._due is None else self._due - time.monotonic()
        if self._late or (left_s is not None and left_s <= 0):
            self._late = True
            return b""
        self._connection.settimeout(left_s)
        try:
            data = bytes(self._connection.recv(size))
        except TimeoutError:
            self._late = True
            return b""
        self._give_way(len(data))
        return data

    def _recv_body(self, size: int) -> bytes:
        started = self._start()
        try:
            data = bytes(self._connection.recv(size))
        except TimeoutError:
            raise ClientTooSlow("The body did not arrive in time.") from None
        self._account(started, len(data))
        return data

    def _start(self) -> float:
        self._connection.settimeout(max(self._patience_s, _SHORTEST_S))
        return time.monotonic()

    def _account(self, started: float, size: int) -> None:
        waited_s = time.monotonic() - started
        self._patience_s = min(self._stall_s, self._patience_s - waited_s + size / MIN_BYTES_PER_S)
        self._give_way(size)

    def _give_way(self, size: int) -> None:
        self._bytes_in_turn += size
        if self._bytes_in_turn >= TURN_BYTES:
            self._bytes_in_turn = 0
            gevent.sleep(0)
