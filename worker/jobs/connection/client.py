"""The connection of the API and the workers to Redis."""

from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from worker.jobs.connection import primary
from worker.jobs.connection.sentinel_url import SentinelUrl
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings

__all__ = ["connect"]

#: Connections of one process. Further requests wait until one is free.
MAX_CONNECTIONS = 64


class _SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """A pool of connections to the primary that the Sentinels name. A burst of requests waits for one."""


def connect(settings: Settings) -> "redis.Redis":
    """Return a Redis client for the ledger. It opens connections on first use.

    The client repeats a failed command for about a second, which covers a quick restart of Redis. This is
    safe, because every script of the ledger may be repeated. If Redis hangs, the client gives up after
    `redis_timeout_s`. With Sentinels, each new connection goes to the server that is the primary then.

    Raises `ConfigurationError` if the query of the URL cannot be used.
    """
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=0.5)
    timeout_s = settings.redis_timeout_s
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": timeout_s,
        "decode_responses": True,
        "health_check_interval": 15,
        "retry": Retry(backoff, retries=3, supported_errors=(RedisConnectionError,)),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }
    url = settings.broker_url
    if found := SentinelUrl.parse(url):
        managed = primary.SentinelTlsConnection if found.tls else primary.SentinelTcpConnection
        options |= found.server_options | {"connection_class": managed}
        sentinel = Sentinel(found.sentinels, sentinel_kwargs=found.sentinel_options)  # type: ignore[no-untyped-call]
        return redis.Redis.from_pool(_SentinelPool(found.service, sentinel, **options))  # type: ignore[no-untyped-call]
    connections = {"rediss": primary.TlsConnection, "unix": primary.UnixConnection}
    connection = connections.get(urlsplit(url).scheme, primary.TcpConnection)
    try:
        pool = redis.BlockingConnectionPool.from_url(url, connection_class=connection, **options)
        connection(**pool.connection_kwargs)  # connects to nothing
    except (TypeError, ValueError) as error:
        raise ConfigurationError("STOKER_REDIS_URL: a parameter after ? is unknown or not valid") from error
    return redis.Redis.from_pool(pool)
