"""Connections of redis-py that a process uses only while their server is the primary."""

from typing import Any

from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

__all__ = [
    "ReadOnlyServer",
    "SentinelTcpConnection",
    "SentinelTlsConnection",
    "TcpConnection",
    "TlsConnection",
    "UnixConnection",
]


class ReadOnlyServer(RedisConnectionError):
    """The server is a replica now: it was the primary, or the address still leads to the old primary."""


class _PrimaryOnly(AbstractConnection):
    """A connection that closes when its server turns out to be a replica.

    The next command then connects again. The address may lead to the new primary by that time.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read one response. Raises `ReadOnlyServer` if the server is a replica and refuses a write."""
        # redis-py leaves a connection through Sentinels open after a timeout. A late response would then be
        # taken for the response to a later command.
        kwargs.setdefault("disconnect_on_error", True)
        try:
            return super().read_response(*args, **kwargs)
        except ReadOnlyError as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise ReadOnlyServer(f"Redis is a read-only replica: {error}") from error


class TcpConnection(_PrimaryOnly, Connection):
    """A TCP connection to the primary."""


class TlsConnection(_PrimaryOnly, SSLConnection):
    """A TLS connection to the primary."""


class UnixConnection(_PrimaryOnly, UnixDomainSocketConnection):
    """A connection to a server on this machine, through a Unix socket."""


class SentinelTcpConnection(_PrimaryOnly, SentinelManagedConnection):
    """A TCP connection to the server that the Sentinels name as primary when it connects."""


class SentinelTlsConnection(_PrimaryOnly, SentinelManagedSSLConnection):
    """The same with TLS."""
