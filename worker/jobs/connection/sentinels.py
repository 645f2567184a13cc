"""The Sentinels of a group of servers, asked whether a server is the primary that stays."""

from typing import Any, Self, cast

import redis
from redis.exceptions import RedisError
from redis.sentinel import Sentinel, SentinelConnectionPool

__all__ = ["Sentinels"]

#: What a Sentinel says about a primary that it replaces, or that most Sentinels count as lost.
REPLACED = "failover_in_progress", "o_down"


class Sentinels:
    """The Sentinels that know a group of servers by the name `service`."""

    def __init__(self, manager: Sentinel, service: str) -> None:
        self._manager = manager
        self._service = service

    @classmethod
    def of(cls, client: "redis.Redis") -> Self | None:
        """Return the Sentinels through which the client finds its server; None if it has a fixed address."""
        pool = client.connection_pool
        return (
            cls(pool.sentinel_manager, pool.service_name)
            if isinstance(pool, SentinelConnectionPool)
            else None
        )

    def keep(self, address: tuple[str, int]) -> bool:
        """Return whether the server at this address is the primary, and no failover replaces it now.

        Most Sentinels must answer, and all that answer must agree. The Sentinel that leads a failover says so
        from before the promotion until it names the new primary.
        """
        states = [state for state in map(self._state, list(self._manager.sentinels)) if state]
        agree = all(
            (state["ip"], state["port"]) == address and not any(flag in state["flags"] for flag in REPLACED)
            for state in states
        )
        return agree and len(states) > len(self._manager.sentinels) // 2

    def _state(self, sentinel: "redis.Redis") -> dict[str, Any] | None:
        try:
            state = sentinel.execute_command("SENTINEL MASTER", self._service)  # type: ignore[no-untyped-call]
        except RedisError:
            return None
        return cast("dict[str, Any]", state)
