"""The fetching of messages: one command takes several of them, if several wait."""

import json
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import redis
from redis.exceptions import ResponseError

__all__ = ["BatchFetching"]

#: The most messages that one command takes.
MAX_BATCH = 32
#: One command takes messages for at most this part of the free slots. Other workers of the queue then get
#: some messages of a burst, too.
BATCH_PART = 4
#: The longest wait of one command while the consumer has work, in seconds. The work may take more slots than
#: its message (a chat of several choices), or the worker may drain. Until the command ends, the server gives
#: it messages that this worker cannot take.
BUSY_WAIT_S = 1.0
#: The command that takes several messages.
COMMAND = "BLMPOP"


class BatchFetching(redis.Channel):
    """A channel that fetches several messages with one command, if the consumer can take them.

    kombu fetches one message with each command. The hub of a busy worker waits several times for Python's
    interpreter with each command, so jobs would start slowly when many of them are dispatched at once.

    Servers older than Redis 7 do not know the command. The channel then does what kombu does.
    """

    connection_errors: Any  # the stubs lack these
    _in_poll: Any
    _brpop_sent_at: float
    _queue_cycle: Any
    _q_for_pri: Any
    _flush_brpop_reauth: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Returns how many messages the consumer can take now.
        self.free_slots: Callable[[], int] = lambda: 1
        #: Returns whether the consumer has work.
        self.is_busy: Callable[[], bool] = lambda: False
        #: Whether the command that waits for messages is `COMMAND`, and whether the server knows it.
        self._takes_batch, self._knows_batches = False, True

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send the command that waits for messages."""
        if timeout is None:
            timeout = min(self.brpop_timeout, BUSY_WAIT_S) if self.is_busy() else self.brpop_timeout
        count = min(self.free_slots() // BATCH_PART, MAX_BATCH)
        self._takes_batch = self._knows_batches and count > 1
        if not self._takes_batch:
            return super()._brpop_start(timeout)  # type: ignore[misc, no-any-return]
        if queues := self._queue_cycle.consume(len(self.active_queues)):
            self._in_poll = self.client.connection
            self._brpop_sent_at = monotonic()
            keys = [f"{self.global_keyprefix}{self._q_for_pri(queue, 0)}" for queue in queues]
            self._in_poll.send_command(COMMAND, timeout, len(keys), *keys, "RIGHT", "COUNT", count)
        return None

    def _brpop_read(self, **options: Any) -> bool:
        """Read the reply to that command, and deliver its messages. Raises `Empty` if there is none."""
        if not self._takes_batch:
            return bool(super()._brpop_read(**options))  # type: ignore[misc]
        try:
            key, messages = self._read_batch(**options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        queue = key.removeprefix(self.global_keyprefix)
        self._queue_cycle.rotate(queue)
        for message in messages:
            self.connection._deliver(json.loads(message), queue)
        return True

    def _read_batch(self, **options: Any) -> tuple[str, list[str]]:
        connection = self.client.connection
        try:
            reply = self.client.parse_response(connection, COMMAND, **options)
        except ResponseError as error:
            if "unknown command" not in str(error):
                raise
            self._knows_batches, reply = False, None
        except self.connection_errors:
            with suppress(OSError):
                connection.disconnect()
            raise
        if not reply:
            raise Empty
        key, messages = reply
        return _text(key), [_text(message) for message in messages]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
