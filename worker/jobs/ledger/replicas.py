"""The replicas of Redis: a failover keeps a write that one of them has."""

from collections.abc import Callable
from typing import Any

import redis
from redis.client import Pipeline
from redis.sentinel import SentinelManagedConnection

from worker.jobs.connection.sentinels import Sentinels
from worker.jobs.errors import NotReplicated
from worker.jobs.settings import Settings

__all__ = ["AddCommands", "Replicas"]

#: Adds commands to a pipeline.
AddCommands = Callable[[Pipeline], object]


class Replicas:
    """The replicas that must have a write before a client may hear of it.

    WAIT waits for the writes of its own connection. So the commands, a write of this class and WAIT go
    through one connection, in this order. A replica gets all writes of the server in their order. So if it
    has this write, it has everything that the server had executed before, for any client.

    Sentinels may replace a primary that is only slow. It then goes on with the replicas that it still has,
    until it hears of its demotion, and their confirmation means nothing. So the Sentinels are asked, too.

    With `redis_replicas` 0 all writes count as replicated.
    """

    def __init__(self, client: "redis.Redis", settings: Settings) -> None:
        self.needed = settings.redis_replicas
        self._client = client
        self._sentinels = Sentinels.of(client)
        self._key = f"{settings.prefix}:replicated"
        #: WAIT ends before the connection's own timeout, so that its answer still comes.
        self._wait_ms = round(1000 * settings.redis_timeout_s / 2)

    def confirm(self) -> None:
        """Wait until the replicas have all writes that Redis has executed. Raises `NotReplicated`."""
        if self.needed:
            self.run(lambda pipe: None)

    def run(self, add: AddCommands) -> list[Any]:
        """Run the commands in one round trip, and return their replies when the replicas have their writes.

        Raises `NotReplicated` if the replicas do not have them in time. The commands were executed then.
        """
        replies, replicated = self.attempt(add)
        if not replicated:
            raise NotReplicated(f"Fewer than {self.needed} replicas of Redis have confirmed the last writes.")
        return replies

    def attempt(self, add: AddCommands) -> tuple[list[Any], bool]:
        """Run the commands like `run`. Return their replies, and whether the replicas have their writes."""
        client = self._client
        pipe = _Pipeline(
            client.connection_pool, client.response_callbacks, transaction=False, shard_hint=None
        )
        with pipe:
            add(pipe)
            if not self.needed:
                return pipe.execute(), True
            pipe.set(self._key, "")
            pipe.wait(self.needed, self._wait_ms)
            *replies, _, reached = pipe.execute()
        replicated = reached >= self.needed and (
            self._sentinels is None or self._sentinels.keep(pipe.address)
        )
        if not replicated:  # there may be another primary: the next connections look for it
            client.connection_pool.disconnect(inuse_connections=False)
        return replies, replicated


class _Pipeline(Pipeline):
    """A pipeline that notes the address of the server that has answered it."""

    address = ("", 0)

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read one response."""
        if isinstance(connection, SentinelManagedConnection):
            self.address = connection.host, connection.port
        return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
