"""The connection: how API and workers talk to Redis."""

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from worker.jobs.settings import Settings

__all__ = ["connect"]

#: Of one process to Redis; more requests at once than these take turns.
MAX_CONNECTIONS = 64


def connect(settings: Settings) -> "redis.Redis":
    """A Redis client for the ledger. Connections open on first use.

    It tries again for about a second, for a quick restart of Redis: all that the ledger asks may be repeated.
    A Redis that hangs is given up before a lease could lapse for it.
    """
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=0.5)
    patience_s = max(1.0, min(5.0, settings.lease_ttl_s / 3))
    pool = redis.BlockingConnectionPool.from_url(  # a burst of requests waits for a connection
        settings.broker_url,
        max_connections=MAX_CONNECTIONS,
        timeout=patience_s,
        decode_responses=True,
        health_check_interval=15,
        retry=Retry(backoff, retries=3, supported_errors=(RedisConnectionError,)),
        socket_timeout=patience_s,
        socket_connect_timeout=patience_s,
    )
    return redis.Redis.from_pool(pool)
