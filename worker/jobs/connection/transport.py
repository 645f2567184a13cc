"""Celery's way to Redis: kombu's transports, on connections that raise refusals."""

import socket
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any

from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES, redis
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import NoPermissionError

from worker.jobs.connection import primary
from worker.jobs.connection.fetching import BatchFetching
from worker.jobs.connection.refusals import Refusal

__all__ = ["BrokerConnection", "RedisTransport", "SentinelTransport"]

#: Replaces kombu's transports in this process: a URL such as `redis+socket:///path` selects them by name.
TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), f"{__name__}:RedisTransport")
TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"

#: The longest pause between two tries to connect, in seconds. With kombu's own of 30 s, workers would do
#: nothing for so long after Redis has come back.
RETRY_MAX_S = 2.0
#: The wait for a message, as a part of the interval of health checks.
FETCH_PART = 0.9
#: kombu's errors of a connection. After one of them, Celery's consumer connects again. After others it ends.
CONNECTION_ERRORS = (*redis.Transport.connection_errors, Refusal, NoPermissionError)


class BrokerConnection(Connection):
    """A connection of Celery that looks often whether Redis is back."""

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect. Pause between two tries for at most `RETRY_MAX_S`."""
        return super()._ensure_connection(*args, **{"interval_max": RETRY_MAX_S, **options})


class _PubSub(redis.PrefixedRedisPubSub):
    """Subscriptions by name.

    kombu subscribes to patterns, although no name here has a wildcard. An ACL allows a channel by its prefix,
    but a pattern only if the ACL has the same pattern.
    """

    def psubscribe(self, *names: Any, **_: Any) -> Any:
        """Subscribe to the channels of these names."""
        return self.subscribe(*names)

    def punsubscribe(self, *names: Any) -> Any:
        """Undo `psubscribe`."""
        return self.unsubscribe(*names)  # type: ignore[no-untyped-call]


class _Client(redis.PrefixedStrictRedis):
    def pubsub(self, **options: Any) -> _PubSub:
        """Return kombu's connection for subscriptions."""
        return _PubSub(self.connection_pool, global_keyprefix=self.global_keyprefix, **options)

    def ping(self, **_: Any) -> bool:
        """Return whether Redis takes writes. kombu asks when it connects.

        With a mere PING, Celery's consumer would connect in vain to a Redis that refuses its next command.
        """
        return bool(self.set("connected", ""))


class _StokerChannel(BatchFetching):
    """The common part of the channels of both transports."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: How long one command waits for a message, in seconds. kombu's own second would be a command a
        #: second of each idle worker. It is shorter than the interval of health checks: a connection that
        #: has been silent for that long is checked before its next command.
        self.brpop_timeout = FETCH_PART * self.health_check_interval  # type: ignore[assignment]

    def close(self) -> None:
        """Close the channel at once. kombu would wait until the command that fetches a message ends."""
        self.stop_fetching()
        super().close()

    def stop_fetching(self) -> None:
        """End the command that waits for messages, if there is one. Call this without a consumer.

        The server ends the command when this side of its connection is closed. A message that it has sent
        before still arrives, and kombu puts it back into its queue.
        """
        if self._in_poll and self._in_poll._sock:
            with suppress(OSError):
                socket.socket.shutdown(self._in_poll._sock, socket.SHUT_WR)
            with suppress(Empty, *CONNECTION_ERRORS):
                self._brpop_read()

    def _get_client(self) -> Any:
        return partial(_Client, global_keyprefix=self.global_keyprefix)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Return the options of connections. kombu's fixed class for Unix sockets would raise no refusals."""
        options: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]  # not in the stubs
        if issubclass(options["connection_class"], UnixDomainSocketConnection):
            bases = primary.PrimaryOnly, options["connection_class"]
            options["connection_class"] = type("UnixConnection", bases, {})
        return options


class _Channel(_StokerChannel):
    connection_class = primary.TcpConnection
    connection_class_ssl = primary.TlsConnection


class RedisTransport(redis.Transport):
    """Celery's way to one Redis server."""

    Channel = _Channel
    connection_errors = CONNECTION_ERRORS


class _SentinelChannel(_StokerChannel, redis.SentinelChannel):
    connection_class = primary.SentinelTcpConnection
    connection_class_ssl = primary.SentinelTlsConnection


class SentinelTransport(redis.SentinelTransport):
    """Celery's way to the primary that the Sentinels name."""

    Channel = _SentinelChannel
    connection_errors = CONNECTION_ERRORS
