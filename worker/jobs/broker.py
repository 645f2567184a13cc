"""The Celery app: carries hints, by task name, that a job waits in the ledger."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from celery import Celery

from worker.jobs.kinds import TASKS
from worker.jobs.settings import Settings

if TYPE_CHECKING:
    import redis

__all__ = [
    "app",
    "connect",
    "messages_key",
    "queued_messages",
    "send_message",
]


def _config() -> dict[str, Any]:
    settings = Settings.from_env()
    return {
        "broker_url": settings.broker_url,
        "broker_transport_options": {
            "priority_steps": [0],  # the ledger has priorities, so a queue needs no list for each
            "global_keyprefix": f"{settings.prefix}:celery:",
            "socket_keepalive": True,
            "health_check_interval": 15,
            "socket_timeout": 5,  # a Redis that hangs must not hang the hub
            "socket_connect_timeout": 5,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_ignore_result": True,  # the ledger holds results
        "result_backend_thread_safe": True,  # there is none to be made anew for every job's thread
        "task_default_queue": "default",
        # A message leaves the broker only when a slot is free, and for good: the ledger, not the message,
        # survives a dead worker.
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 0,
        "worker_enable_remote_control": True,
        # Three messages a task, of which the ledger tells more. Flower switches them on while it looks.
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


app = Celery("stoker", set_as_current=False)
app.add_defaults(_config)  # called on first use, not at import


def messages_key(settings: Settings, queue: str) -> str:
    """The Redis list in which kombu keeps the queue's messages."""
    return f"{settings.prefix}:celery:{queue}"


def queued_messages(settings: Settings, client: "redis.Redis", queue: str) -> set[str]:
    """The jobs that the queue's messages are about."""
    found = set()
    for text in client.lrange(messages_key(settings, queue), 0, -1):
        with suppress(ValueError, KeyError, TypeError):  # what is not ours is not for us to judge
            found.add(cast(str, json.loads(text)["headers"]["id"]))
    return found


def connect() -> None:
    """Open this process' connection for hints. Raises `kombu.exceptions.OperationalError`."""
    with app.producer_or_acquire() as producer:
        producer.connection.ensure_connection(max_retries=1)
    _ = app.amqp.queues, app.amqp.router, app.amqp.send_task_message


def send_message(kind: str, job_id: str, queue: str) -> None:
    """Tell the queue's workers of the job. Raises `kombu.exceptions.OperationalError` if Redis is away."""
    app.send_task(TASKS[kind], args=[job_id], task_id=job_id, queue=queue, retry=False, ignore_result=True)
