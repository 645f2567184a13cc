"""The lane: many jobs at once in one solo worker, while its hub stays free for control."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Task, bootsteps
from celery.concurrency.base import BasePool, apply_target
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy

from worker.jobs.broker import AHEAD, send_hint
from worker.jobs.errors import JobFailed
from worker.jobs.ledger import Ledger
from worker.outbox import Outbox
from worker.runner import Runner
from worker.runs import Run

__all__ = ["Doorbell", "Lane", "LaneTask"]

log = logging.getLogger(__name__)


class Lane(BasePool):
    """A Celery pool adapter: one waiting thread a message, all compute in the engine's own thread.

    The solo pool would run a task inside the hub, deaf to everything for its whole length. A lane is
    given to Celery's default strategy instead of the worker's pool, so requests keep their states.
    """

    body_can_be_buffer = True
    signal_safe = False

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

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Nothing: the pid is this worker's own, and `LaneRequest` ends the job."""

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
        try:
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
        except Exception:  # whatever happens, a job has an ending
            log.exception("job %s", run.record.id)
            run.fail("internal_error", "the worker met an error of its own; its log says which")
        run.over.wait()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs; whether that came about."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._runs, timeout_s)

    def hand_back(self) -> None:
        """Put what still runs back into its queue, for another worker to go on with."""
        with self._idle:
            runs = list(self._runs.values())
        for run in runs:
            job = run.record
            queue = self.ledger.requeue(job.id, self.worker, "drain")
            run.abandon()
            if queue:
                send_hint(job.kind, job.id, queue, AHEAD)

    def _get_info(self) -> dict[str, Any]:
        return {"max-concurrency": self.limit, "processes": [os.getpid()], "running": self.running}


class LaneRequest(Request):
    """A request that `celery control terminate` ends as any client's cancel would."""

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Cancel the job."""
        lane: Lane = self.task.lane  # type: ignore[attr-defined]  # only LaneTasks have lane requests
        lane.ledger.cancel(self.id)
        super().terminate(lane, signal)


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
        """The default strategy, bound to the lane."""
        type(self).lane = consumer.controller.lane
        return default_strategy(task, app, _LaneConsumer(consumer, self.lane))


class Doorbell(bootsteps.StartStopStep):
    """Wakes the hub when a slot gets free; its poll would sleep on for up to a second otherwise."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        super().__init__(consumer)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Listen; called again after each reconnect."""
        hub.add_reader(self._reader, os.read, self._reader, 4096)
        consumer.controller.lane.on_free = self._ring

    def _ring(self) -> None:
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # full of unheard rings already
