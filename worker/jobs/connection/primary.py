"""Connections of redis-py that a process uses only while their server is the primary."""

from contextlib import suppress
from typing import Any

from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import BusyLoadingError, ResponseError
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from worker.jobs.connection.refusals import CommandRefused, ServerNotReady, refusal_of

__all__ = [
    "PrimaryOnly",
    "SentinelTcpConnection",
    "SentinelTlsConnection",
    "TcpConnection",
    "TlsConnection",
    "UnixConnection",
]


class PrimaryOnly(AbstractConnection):
    """A connection that raises refusals, and that closes when its server is not a primary that is ready."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read one response. Raises `Refusal` if Redis refuses the command for the moment."""
        # redis-py leaves a connection through Sentinels open after a timeout. A late response would then be
        # taken for the response to a later command.
        kwargs.setdefault("disconnect_on_error", True)
        try:
            return super().read_response(*args, **kwargs)
        except (ResponseError, BusyLoadingError) as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            if isinstance(refusal, ServerNotReady):
                self.disconnect()  # type: ignore[no-untyped-call]
            raise refusal from error

    def _send_ping(self) -> None:
        """Check the health of an idle connection. With a full disk Redis refuses even that, so it answers."""
        with suppress(CommandRefused):
            super()._send_ping()  # type: ignore[no-untyped-call]


class TcpConnection(PrimaryOnly, Connection):
    """A TCP connection to the primary."""


class TlsConnection(PrimaryOnly, SSLConnection):
    """A TLS connection to the primary."""


class UnixConnection(PrimaryOnly, UnixDomainSocketConnection):
    """A connection to a server on this machine, through a Unix socket."""


class SentinelTcpConnection(PrimaryOnly, SentinelManagedConnection):
    """A TCP connection to the server that the Sentinels name as primary when it connects."""


class SentinelTlsConnection(PrimaryOnly, SentinelManagedSSLConnection):
    """The same with TLS."""
