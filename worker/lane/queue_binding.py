"""The binding of a worker to one queue: it consumes the messages for its own model only."""

from functools import partial
from typing import Any

from celery.worker import control

from worker.jobs.errors import ConfigurationError

__all__ = ["consume_only"]


def consume_only(worker: Any, queue: str) -> None:
    """Make the Celery worker consume only `queue`, without acknowledgements.

    The broker forgets a message once a worker fetches it. Nothing is lost, because the ledger knows which
    jobs wait, and each job costs two round trips less. Raises `ConfigurationError` if the worker was started
    with `-Q` and another queue.
    """
    queues = worker.app.amqp.queues
    others = set(queues.consume_from) - {queue, worker.app.conf.task_default_queue}
    if others:
        raise ConfigurationError(f"-Q {','.join(sorted(others))} is refused: {_why(queue)}")
    queues.select(queue)
    queues[queue].no_ack = True
    control.Panel.data["add_consumer"] = partial(_add_consumer, queue)


def _add_consumer(own: str, state: Any, queue: str, **_: Any) -> dict[str, str]:
    """Replace Celery's `control add_consumer`: it may only undo a `cancel_consumer` of the worker's queue."""
    if queue != own:
        return {"error": f"refused: {_why(own)}"}
    return control.add_consumer(state, queue)  # type: ignore[attr-defined, no-any-return]


def _why(queue: str) -> str:
    return f"this worker has one model, and serves its queue, {queue}; start another for another"
