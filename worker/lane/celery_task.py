"""The binding: Celery's tasks and requests as the lane wants them."""

from contextlib import suppress
from typing import Any

from celery import Task
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy

from worker.jobs.errors import JobNotFound
from worker.lane.lane import Lane
from worker.lane.pool import LanePool

__all__ = ["LaneTask"]


class LaneRequest(Request):
    """A request that `celery control revoke` and `terminate` end as any client's cancel would."""

    def acknowledge(self) -> None:
        """Nothing: the broker does not wait for it (see `Lifecycle`)."""
        self.acknowledged = True

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Cancel the job; its run then ends by itself, and only then is its slot free."""
        self._cancel_job()

    def revoked(self) -> bool:
        """Whether the message is not to be run; then its job must not wait for ever."""
        revoked = bool(super().revoked())
        if revoked:
            self._cancel_job()
        return revoked

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Nothing: Celery calls it when it shuts down cold, and `Lifecycle` hands the jobs back."""

    def _cancel_job(self) -> None:
        lane: Lane = self.task.lane  # type: ignore[attr-defined]  # only LaneTasks have lane requests
        with suppress(JobNotFound):
            lane.ledger.cancel(self.id)


class _LaneConsumer:
    """The consumer as the default strategy sees it: with the lane's pool."""

    def __init__(self, consumer: Any, pool: LanePool) -> None:
        self._consumer = consumer
        self.pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class LaneTask(Task[Any, Any]):
    """A task whose messages go to the worker's lane."""

    abstract = True
    Request = LaneRequest  # type: ignore[assignment]  # a class does as well as its name
    #: Set when the consumer starts.
    lane: Lane

    def Strategy(self, task: Any, app: Any, consumer: Any) -> Any:  # type: ignore[override]  # noqa: N802
        """The default strategy, bound to the lane; called again after each reconnect."""
        type(self).lane, pool = consumer.controller.lane, consumer.controller.lane_pool
        # Without a wake-up the hub's poll would sleep on for up to a second before it saw the free slot.
        pool.on_slot_free = lambda: consumer.hub.call_soon(lambda: None)
        return default_strategy(task, app, _LaneConsumer(consumer, pool))
