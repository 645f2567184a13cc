"""The store: the Redis client, the keys and the scripts on which the ledger and its neighbours are built."""

from collections.abc import Mapping, Sequence
from typing import Any

import redis

from worker.jobs.connection.client import connect
from worker.jobs.ledger.redis_clock import RedisClock
from worker.jobs.ledger.replicas import Replicas
from worker.jobs.ledger.scripts import Scripts
from worker.jobs.records import rfc3339
from worker.jobs.settings import Settings

__all__ = ["RedisStore"]


class RedisStore:
    """The Redis of an installation, as one process uses it. It opens connections on first use."""

    def __init__(self, settings: Settings, client: "redis.Redis | None" = None) -> None:
        self.settings = settings
        self.client = client or connect(settings)
        self.clock = RedisClock(self.client)
        self.replicas = Replicas(self.client, settings)
        self.scripts = Scripts(self.client, self.replicas)

    def key(self, *parts: str) -> str:
        """Return the Redis key of these parts, behind the prefix. `lua/prelude.lua` lists all keys."""
        return ":".join((self.settings.prefix, *parts))

    def channel(self, job_id: str) -> str:
        """Return the pub/sub channel of the job's events. It is also the start of the job's keys."""
        return self.key("job", f"{{{job_id}}}")

    def hashes(self, keys: Sequence[str]) -> Sequence[Mapping[str, str]]:
        """Return the hashes at these keys in one round trip. An absent one is empty."""
        with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            return pipe.execute() if keys else []

    def common_args(self, job_id: str, now: float | None = None) -> tuple[Any, ...]:
        """Return the first five arguments of every script about a job, at `now` (s since the epoch).

        By default, that is the time of Redis.
        """
        now = self.clock.now() if now is None else now
        return self.settings.prefix, rfc3339(now), now, self.settings.retention_s, job_id

    def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew the lease of this name. Return whether the holder has it now."""
        args = self.settings.prefix, name, holder, round(seconds * 1000)
        return bool(self.scripts.eval("take_lease", *args))

    def check_writes(self) -> None:
        """Write to Redis. Raises `RedisError` or `NotReplicated` if it takes no writes."""
        self.replicas.run(lambda pipe: pipe.set(self.key("writable"), ""))

    def close(self) -> None:
        """Close the client's connections."""
        self.client.close()
