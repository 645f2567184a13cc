"""The Celery app: carries hints, by task name, that a job waits in the ledger."""

from typing import Any

from celery import Celery

from worker.jobs.settings import Settings

__all__ = ["TASKS", "app", "broker_queue_key", "send_hint"]

#: Task name by kind of job; the API submits by name and needs no worker code.
TASKS = {"chat": "stoker.chat", "video": "stoker.video"}


def _config() -> dict[str, Any]:
    settings = Settings.from_env()
    return {
        "broker_url": settings.broker_url,
        "broker_transport_options": {
            "global_keyprefix": broker_queue_key(settings, ""),
            "socket_keepalive": True,
            "health_check_interval": 15,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_ignore_result": True,  # the ledger holds results
        "task_default_queue": "default",
        # A message leaves the broker only when a slot is free, and is acknowledged at once: the ledger,
        # not the message, survives a dead worker.
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 0,
        "worker_enable_remote_control": True,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


app = Celery("stoker", set_as_current=False)
app.add_defaults(_config)  # called on first use, not at import


def broker_queue_key(settings: Settings, queue: str) -> str:
    """The Redis list in which Celery keeps the queue's messages."""
    return f"{settings.prefix}:celery:{queue}"


def send_hint(kind: str, job_id: str, queue: str) -> None:
    """Tell the queue's workers of the job. Raises `kombu.exceptions.OperationalError` if Redis is away."""
    app.send_task(TASKS[kind], args=[job_id], task_id=job_id, queue=queue, retry=False)
