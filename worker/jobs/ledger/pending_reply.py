"""Replies of Redis to commands that were sent without waiting for them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

__all__ = ["PendingReply"]


class PendingReply:
    """The reply to a command that is on its way. It has a connection of its own until it is read or dropped.

    redis-py repeats no such command, so the caller does.
    """

    def __init__(self, client: "redis.Redis", *command: Any) -> None:
        """Send the command. Raises `redis.exceptions.RedisError` if it cannot be sent."""
        self._pool = client.connection_pool
        self._connection: Any = self._pool.get_connection()
        try:
            self._connection.send_command(*command)  # type: ignore[no-untyped-call]
        except BaseException:
            self.drop()
            raise

    def read(self) -> Any:
        """Wait for the reply and return it. Raises `redis.exceptions.RedisError`."""
        connection, self._connection = self._connection, None
        try:
            return connection.read_response()
        finally:
            self._pool.release(connection)

    def drop(self) -> None:
        """Give the connection back, unless the reply was read."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()  # else the next command on it would get this reply
            self._pool.release(connection)
