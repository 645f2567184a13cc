"""kombu's transports for Redis, on connections that are used only while their server is the primary."""

from kombu.transport import redis

from worker.jobs.connection import primary

__all__ = ["RedisTransport", "SentinelTransport"]


class _Channel(redis.Channel):
    connection_class = primary.TcpConnection
    connection_class_ssl = primary.TlsConnection


class RedisTransport(redis.Transport):
    """Celery's way to one Redis server."""

    Channel = _Channel


class _SentinelChannel(redis.SentinelChannel):
    connection_class = primary.SentinelTcpConnection
    connection_class_ssl = primary.SentinelTlsConnection


class SentinelTransport(redis.SentinelTransport):
    """Celery's way to the primary that the Sentinels name."""

    Channel = _SentinelChannel
