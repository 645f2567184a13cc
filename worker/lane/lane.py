"""The lane: it claims jobs and runs many of them at once in one solo worker."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum

from redis.exceptions import RedisError

from worker.jobs.connection.refusals import is_away
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.errors import EngineDied, JobFailed, NeedsExclusiveWorker, OutOfMemory
from worker.jobs.events import Reason
from worker.jobs.logs.context import about
from worker.jobs.logs.facts import facts, of_job
from worker.jobs.records import Record
from worker.lane.shared_lock import SharedLock
from worker.runs.hooks import RunHooks
from worker.runs.outbox import Outbox
from worker.runs.run import Run
from worker.runs.runner import Runner

__all__ = ["Lane"]

log = logging.getLogger(__name__)

#: Pause before the lane repeats a claim that Redis has not answered, in seconds.
CLAIM_RETRY_S = 0.5


class LaneState(Enum):
    """The states of a lane, in their order. A lane never goes back."""

    #: The lane claims jobs.
    OPEN = 1
    #: It claims no more jobs, and its runs go on.
    DRAINING = 2
    #: Its runs are handed back. So is a run that starts now.
    CLOSED = 3


class Lane:
    """Claims jobs for this worker, and runs up to `runner.slots` of them at once.

    Each job has a waiting thread of the pool. All computation happens in the engine's own thread. A job of
    several choices takes a slot for each, and so fewer jobs run beside it.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        outbox: Outbox,
        runner: Runner,
        worker: str,
        device: str,
        hooks: RunHooks | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.worker = worker
        self.device = device
        self.outbox = outbox
        #: Takes slots beyond one for each job, or gives them back if the number is negative.
        self.take_slots: Callable[[int], None] = lambda count: None
        self._runner = runner
        self._hooks = hooks or RunHooks()
        #: The state and the current runs, by run id. `_changed` guards them, and tells of their changes.
        self._state = LaneState.OPEN
        self._runs: dict[str, Run] = {}
        self._changed = threading.Condition()
        self._lock = SharedLock()
        #: Ids of jobs that wait for exclusive execution, or run exclusively.
        self._isolated: set[str] = set()

    @property
    def running(self) -> int:
        """The number of current runs."""
        return len(self._runs)

    @property
    def is_idle(self) -> bool:
        """Whether the lane claims jobs and has none, nor one that waits to run exclusively."""
        return self._state is LaneState.OPEN and not self._runs and not self._isolated

    def not_beside_exclusive_job(self) -> AbstractContextManager[None]:
        """Return a context in which no job runs exclusively. Entering it waits until none does."""
        return self._lock.shared()

    def runs_by_job(self) -> dict[str, Run]:
        """Return the current runs by job id."""
        with self._changed:
            return {run.record.id: run for run in self._runs.values()}

    def is_isolated(self, job_id: str) -> bool:
        """Return whether the job waits for all others to end, to run exclusively, or already runs so."""
        return job_id in self._isolated

    def run_job(self, job_id: str) -> str:
        """Claim the job and run it until its run is over. A thread of the pool calls this for each message.

        Return the type of the job's terminal event, "abandoned" if another worker continues the job, or
        "not waiting" if this worker could not claim it.
        """
        if self.is_isolated(job_id):  # another message has started it
            return "not waiting"
        run = self.runs_by_job().get(job_id)
        if run and not run.over.is_set():
            run.emit()  # if a failover of Redis has lost the claim, the outbox makes it again
            return "not waiting"
        try:
            with self._lock.shared():
                return self._claim_and_run(job_id, exclusive=False)
        except NeedsExclusiveWorker as error:
            log.warning("%s", error, extra=facts(job=job_id))
        self._isolated.add(job_id)
        try:
            with self._lock.exclusive():
                return self._claim_and_run(job_id, exclusive=True)
        finally:
            self._isolated.discard(job_id)

    def drain(self) -> None:
        """Claim no more jobs."""
        self._enter(LaneState.DRAINING)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no job runs, for at most `timeout_s` seconds. Return whether none runs."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs, timeout_s)

    def hand_back(self, reason: Reason = "drain") -> None:
        """Abandon all current runs and requeue their jobs, so that other workers continue them."""
        self._enter(LaneState.CLOSED)
        with self._changed:
            runs = list(self._runs.values())
        for run in runs:
            run.abandon()
        for run in runs:
            if not self._requeue(run, reason):
                return  # Redis is away: do not wait for it again for each job

    def _enter(self, state: LaneState) -> None:
        """Enter this state, unless the lane is in a later one."""
        with self._changed:
            if state.value > self._state.value:
                self._state = state
                self._changed.notify_all()

    def _claim_and_run(self, job_id: str, exclusive: bool) -> str:
        record = self._claim(job_id, exclusive)
        if record is None:
            return "not waiting"
        run, more_slots = Run(record, self.outbox), record.length - 1
        with self._changed:
            self._runs[run.id] = run
            state = self._state
        if more_slots:
            self.take_slots(more_slots)
        try:
            if state is LaneState.CLOSED:  # the claim succeeded while `hand_back` dealt with the other runs
                run.abandon()
                self._requeue(run, "drain")
            else:
                with about(**of_job(record)):
                    self._run_to_end(run)
        finally:
            with self._changed:
                del self._runs[run.id]
                self._changed.notify_all()
            if more_slots:
                self.take_slots(-more_slots)
        return run.outcome or "abandoned"

    def _claim(self, job_id: str, exclusive: bool) -> Record | None:
        """Claim the job as soon as Redis answers. Return None if it is not waiting, or if the lane drains."""
        claim = uuid.uuid4().hex
        while self._state is LaneState.OPEN:
            try:
                return self.dispatcher.claim(
                    job_id, self.worker, self.device, claim=claim, exclusive=exclusive
                )
            except RedisError as error:
                if not is_away(error):
                    raise
                log.warning("the job is not claimed yet: %s", error, extra=facts(job=job_id))
                with self._changed:
                    self._changed.wait_for(lambda: self._state is not LaneState.OPEN, CLAIM_RETRY_S)
        try:
            self.dispatcher.send_again(job_id)
        except RedisError as error:
            log.warning("recovery will send its message again: %s", error, extra=facts(job=job_id))
        return None

    def _run_to_end(self, run: Run) -> None:
        """Have the runner run the job. Give the job a terminal event for every error, then wait for it.

        Two errors end no job: after `EngineDied` the worker ends and hands the job back. If Redis is away,
        the reconciler requeues the job later.
        """
        began = time.monotonic()
        log.info("started", extra=facts(queue=run.record.queue))
        self._hooks.before_run(run)
        try:
            self._runner.run_job(run)
        except EngineDied as error:
            log.error("the job will be handed back: %s", error)
        except JobFailed as error:
            run.fail(error.code, str(error))
        except MemoryError:
            log.exception("the job has met an error")
            run.fail(OutOfMemory.code, "the worker ran out of memory")
        except Exception as error:
            log.exception("the job has met an error")
            if isinstance(error, RedisError) and is_away(error):
                run.abandon()
            else:
                run.fail("internal_error", "the worker met an error of its own; its log says which")
        run.over.wait()
        seconds = round(time.monotonic() - began, 3)
        log.info("ended", extra=facts(state=run.outcome, seconds=seconds, **run.end_facts))
        self._hooks.after_run(run)

    def _requeue(self, run: Run, reason: Reason) -> bool:
        """Requeue the job of the abandoned run. Return whether Redis could be reached."""
        with about(**of_job(run.record)):
            try:
                self.dispatcher.requeue(run.record.id, self.worker, reason, run.record.claim)
            except RedisError as error:
                log.warning("the job will be requeued when the worker's lease expires: %s", error)
                return False
        return True
