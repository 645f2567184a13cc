"""The envelope of Celery messages: kombu's own form of them, which the ledger's scripts fill in and push."""

import re
from functools import cache
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.transport import virtual
from kombu.utils.json import dumps

__all__ = ["task_envelope"]


class _Channel(virtual.Channel):
    """A channel that keeps a message instead of sending it."""

    body_encoding = "utf-8"  # kombu's default, base64, would hide the placeholder in the body

    def _next_delivery_tag(self) -> str:
        return "@tag@"

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.kept = dumps(message)


class _Transport(virtual.Transport):
    Channel = _Channel


@cache
def task_envelope() -> str:
    """Return the Celery message of a task as kombu writes it to Redis, with placeholders such as `@id@`.

    `lua/messages.lua` replaces them. All stand in JSON strings, apart from `@record@` and `@retries@`.
    """
    app = Celery("stoker", set_as_current=False)
    with Connection(transport=_Transport) as connection, app.amqp.Producer(connection) as producer:
        message = app.amqp.create_task_message(
            "@id@", "@task@", ["@argument@"], retries="@retries@", ignore_result=True, origin="stoker"
        )
        headers = {"record": "@record@"}
        app.amqp.send_task_message(producer, "@task@", message, queue="@queue@", retry=False, headers=headers)
        channel: Any = producer.channel
        return re.sub('"(@record@|@retries@)"', r"\1", channel.kept)
