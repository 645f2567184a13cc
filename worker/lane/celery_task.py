"""The Celery task and request classes that pass messages to the lane."""

from contextlib import suppress
from typing import Any

from celery import Task
from celery.bootsteps import RUN  # type: ignore[attr-defined]  # the stubs lack it
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy

from worker.jobs.errors import JobNotFound, NotReplicated
from worker.jobs.records import Record
from worker.lane.lane import Lane
from worker.lane.pool import LanePool

__all__ = ["LaneTask", "sent_record"]


def sent_record(job_id: str, request: Any) -> Record | None:
    """Return the record in the header `record` of the job's message, or None if there is none.

    The message of an older version has none, and so has that of a long job.
    """
    fields = getattr(request, "record", None)
    if not isinstance(fields, dict):
        return None
    try:
        return Record.from_hash(job_id, fields)
    except (KeyError, ValueError, TypeError):  # a newer version may write others
        return None


class LaneRequest(Request):
    """A Celery request. `celery control revoke` and `terminate` cancel its job, as a client's cancel does."""

    def acknowledge(self) -> None:
        """Set only the flag: the broker expects no acknowledgement (see `consume_only`)."""
        self.acknowledged = True

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Cancel the job. Its run then ends by itself, and frees the slot."""
        self._cancel_job()

    def revoked(self) -> bool:
        """Return whether the message was revoked.

        If so, cancel its job, which would otherwise wait for ever.
        """
        revoked = bool(super().revoked())
        if revoked:
            self._cancel_job()
        return revoked

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Do nothing. Celery calls this in a cold shutdown, in which `Lifecycle` hands the jobs back."""

    def _cancel_job(self) -> None:
        lane: Lane = self.task.lane  # type: ignore[attr-defined]  # only a LaneTask has LaneRequests
        with suppress(JobNotFound, NotReplicated):
            lane.dispatcher.cancel(self.id)


def _drop_connection(consumer: Any) -> None:
    """Raise an error that the consumer takes for the loss of its connection. The hub calls this."""
    if consumer.blueprint.state == RUN:
        raise ConnectionResetError("Redis is another server now")


class _LaneConsumer:
    """A Celery consumer whose pool is the lane's."""

    def __init__(self, consumer: Any, pool: LanePool) -> None:
        self._consumer = consumer
        self.pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class LaneTask(Task[Any, Any]):
    """A Celery task whose messages go to the worker's lane."""

    abstract = True
    Request = LaneRequest  # type: ignore[assignment]  # Celery accepts the class as well as its name
    #: The worker's lane. `Strategy` sets it when the consumer starts.
    lane: Lane

    def Strategy(self, task: Any, app: Any, consumer: Any) -> Any:  # type: ignore[override]  # noqa: N802
        """Return Celery's default strategy, bound to the lane. Celery asks again after each reconnect."""
        type(self).lane, pool = consumer.controller.lane, consumer.controller.lane_pool
        # The hub polls in intervals of up to a second. Without this wake-up it would see the free slot late.
        pool.on_slot_free = lambda: consumer.hub.call_soon(lambda: None)
        channel = consumer.connection.default_channel
        channel.free_slots, channel.is_busy = lambda: pool.free_slots, lambda: pool.is_busy
        pool.stop_fetching = channel.stop_fetching
        pool.reconnect = lambda: consumer.hub.call_soon(_drop_connection, consumer)
        return default_strategy(task, app, _LaneConsumer(consumer, pool))
