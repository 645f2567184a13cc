"""The connection of the API and the workers to Redis."""

import re

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError
from redis.retry import Retry

from worker.jobs.settings import Settings

__all__ = ["cannot_write", "connect"]

#: Connections of one process. Further requests wait until one is free.
MAX_CONNECTIONS = 64
#: The errors of a Redis with a full disk or too few replicas. A pipeline puts text of its own before them.
REFUSED_WRITE = re.compile("(^|caused error: )(MISCONF|NOREPLICAS) ")


def cannot_write(error: RedisError) -> bool:
    """Return whether Redis answers but cannot write for the moment. It has not executed the command then."""
    return isinstance(error, OutOfMemoryError | ReadOnlyError) or bool(REFUSED_WRITE.search(str(error)))


def connect(settings: Settings) -> "redis.Redis":
    """Return a Redis client for the ledger. It opens connections on first use.

    The client repeats a failed command for about a second, which covers a quick restart of Redis. This is
    safe, because every script of the ledger may be repeated. If Redis hangs, the client gives up after a
    third of the lease (at least 1 s, at most 5 s), before the lease can lapse for it.
    """
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=0.5)
    timeout_s = max(1.0, min(5.0, settings.lease_ttl_s / 3))
    pool = redis.BlockingConnectionPool.from_url(  # a burst of requests waits for a connection
        settings.broker_url,
        max_connections=MAX_CONNECTIONS,
        timeout=timeout_s,
        decode_responses=True,
        health_check_interval=15,
        retry=Retry(backoff, retries=3, supported_errors=(RedisConnectionError,)),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
    )
    return redis.Redis.from_pool(pool)
