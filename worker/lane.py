"""The lane: many jobs at once in one solo worker, while its hub stays free for control."""

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Task
from celery.concurrency.base import BasePool, apply_target
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.jobs.errors import JobFailed, JobNotFound
from worker.jobs.ledger import Ledger
from worker.jobs.recovery import queue_again
from worker.outbox import Outbox
from worker.runner import Runner
from worker.runs import Run

__all__ = ["Lane", "LaneTask"]

log = logging.getLogger(__name__)


class Lane(BasePool):
    """A Celery pool adapter: one waiting thread a message, all compute in the engine's own thread.

    The solo pool would run a task inside the hub, deaf to everything for its whole length. A lane is
    given to Celery's default strategy instead of the worker's pool, so requests keep their states.
    """

    def __init__(
        self, app: Any, ledger: Ledger, outbox: Outbox, runner: Runner, worker: str, device: str
    ) -> None:
        super().__init__(limit=runner.slots, app=app)
        self.ledger = ledger
        self.worker = worker
        self.device = device
        self.on_free: Callable[[], None] = lambda: None
        self._outbox = outbox
        self._runner = runner
        self._runs: dict[str, Run] = {}
        self._closed = False
        self._strays: set[str] = set()
        self._idle = threading.Condition()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[[Any], Any] | None = None,
        accept_callback: Callable[[int, float], Any] | None = None,
        error_callback: Callable[[ExceptionInfo], Any] | None = None,
        correlation_id: str = "",
        **_: Any,
    ) -> None:
        """Run Celery's traced task in a thread; called by the hub for each message."""

        def work() -> None:
            try:
                apply_target(target, args, kwargs, callback, accept_callback)
            except BaseException:  # what the trace did not catch is Celery's to report, not the thread's
                log.exception("task %s", correlation_id)
                if error_callback:
                    error_callback(ExceptionInfo())
            finally:
                self.on_free()

        threading.Thread(target=work, name=f"job-{correlation_id}", daemon=True).start()

    @property
    def running(self) -> int:
        """How many runs go on."""
        return len(self._runs)

    def run(self, job_id: str) -> str:
        """Claim the job and run it to its end; called from the task's thread. What became of it."""
        record = self.ledger.claim(job_id, self.worker, self.device)
        if record is None:
            return "not waiting"
        run = Run(record, self._outbox)
        with self._idle:
            self._runs[run.id] = run
            closed = self._closed
        try:
            if closed:  # claimed while the others were handed back
                self._hand_back(run)
            else:
                self._run(run)
        finally:
            with self._idle:
                del self._runs[run.id]
                self._idle.notify_all()
        return run.outcome or "abandoned"

    def _run(self, run: Run) -> None:
        try:
            self._runner.run(run)
        except JobFailed as error:
            run.fail(error.code, str(error))
        except RedisError:
            log.exception("job %s", run.record.id)
            run.abandon()  # `heal` queues it again
        except Exception:  # whatever happens, a job has an ending
            log.exception("job %s", run.record.id)
            run.fail("internal_error", "the worker met an error of its own; its log says which")
        run.over.wait()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs; whether that came about."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._runs, timeout_s)

    def hand_back(self) -> bool:
        """Put what still runs back into its queue, for another worker to go on with; whether all could be."""
        with self._idle:
            self._closed = True
            runs = list(self._runs.values())
        return not [run for run in runs if not self._hand_back(run)]

    def _hand_back(self, run: Run) -> bool:
        run.abandon()
        try:
            queue_again(self.ledger, run.record.id, self.worker, "drain")
        except (RedisError, OperationalError) as error:
            log.warning("job %s comes back when the lease lapses: %s", run.record.id, error)
            return False
        return True

    def heal(self, claimed: Iterable[str]) -> None:
        """Queue the jobs again that the ledger says run here, and do not.

        They are those whose claim was made but never answered, or whose run met a Redis error. Called with
        every heartbeat; a job must be missing twice, for it may have been claimed just now.
        """
        with self._idle:
            running = {run.record.id for run in self._runs.values()}
        strays = set(claimed) - running
        for job_id in strays & self._strays:
            queue_again(self.ledger, job_id, self.worker, "worker_lost")
        self._strays = strays


class LaneRequest(Request):
    """A request that `celery control revoke` and `terminate` end as any client's cancel would."""

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
    """The consumer as the default strategy sees it, with the lane for a pool."""

    def __init__(self, consumer: Any, lane: Lane) -> None:
        self._consumer = consumer
        self.pool = lane

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
        type(self).lane = consumer.controller.lane
        # The hub's poll would sleep on for up to a second before it saw that a slot is free.
        self.lane.on_free = lambda: consumer.hub.call_soon(lambda: None)
        return default_strategy(task, app, _LaneConsumer(consumer, self.lane))
