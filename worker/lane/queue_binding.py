"""The subscription: a worker takes the messages of its model's queue, and of no other."""

from functools import partial
from typing import Any

from celery.worker import control

from worker.jobs.errors import ConfigurationError

__all__ = ["consume_only"]


def consume_only(worker: Any, queue: str) -> None:
    """Have the Celery worker consume `queue` alone. Raises `ConfigurationError` for any other queue.

    A message is gone once it is fetched: the ledger knows who waits, and it saves two round trips a job.
    """
    queues = worker.app.amqp.queues
    others = set(queues.consume_from) - {queue, worker.app.conf.task_default_queue}
    if others:
        raise ConfigurationError(f"-Q {','.join(sorted(others))} is refused: {_why(queue)}")
    queues.select(queue)
    queues[queue].no_ack = True
    control.Panel.data["add_consumer"] = partial(_add_consumer, queue)


def _add_consumer(own: str, state: Any, queue: str, **_: Any) -> dict[str, str]:
    """Celery's `control add_consumer`, which may only take back a `cancel_consumer`."""
    if queue != own:
        return {"error": f"refused: {_why(own)}"}
    return control.add_consumer(state, queue)  # type: ignore[attr-defined, no-any-return]


def _why(queue: str) -> str:
    return f"this worker has one model, and serves its queue, {queue}; start another for another"
