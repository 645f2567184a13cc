"""The lane: it claims jobs and runs many of them at once in one solo worker."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from functools import partial

from redis.exceptions import RedisError

from worker.jobs.connection.refusals import is_away
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.errors import EngineDied, JobFailed, NeedsExclusiveWorker, OutOfMemory
from worker.jobs.events import Reason
from worker.jobs.logs.context import about
from worker.jobs.logs.facts import facts, of_job
from worker.jobs.records import Record
from worker.lane.claim import Claim, ClaimDiffers
from worker.lane.shared_lock import SharedLock
from worker.runs.hooks import RunHooks
from worker.runs.outbox import Outbox
from worker.runs.run import Run
from worker.runs.runner import Runner

__all__ = ["Lane"]

log = logging.getLogger(__name__)


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

    def run_job(self, job_id: str, sent: Record | None = None) -> str:
        """Claim the job and run it until its run is over. A thread of the pool calls this for each message.

        `sent` is the job's record as the message has it.

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
                return self._claim_and_run(job_id, exclusive=False, sent=self._startable(sent))
        except NeedsExclusiveWorker as error:
            log.warning("%s", error, extra=facts(job=job_id))
        self._isolated.add(job_id)
        try:
            with self._lock.exclusive():
                return self._claim_and_run(job_id, exclusive=True)
        finally:
            self._isolated.discard(job_id)

    def _startable(self, sent: Record | None) -> Record | None:
        """Return the record if the runner may begin with it: nothing of the job is in its log."""
        return sent if sent and sent.attempt == 0 and self._runner.starts_unclaimed else None

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

    def _claim_and_run(self, job_id: str, exclusive: bool, sent: Record | None = None) -> str:
        """Claim the job and run it. If it is `sent`, the run begins while the claim is on its way."""
        claim = Claim(
            self.dispatcher, job_id, self.worker, self.device, self._wait_if_open, exclusive=exclusive
        )
        if sent and claim.send():
            run = Run(claim.expected(sent, self.outbox.time()), self.outbox, claimed=False)
            try:
                return self._run(run, claim)
            except ClaimDiffers:
                log.info("this worker began in vain", extra=facts(job=job_id))
            finally:
                claim.drop()
                run.abandon()  # does nothing if the run is over
        record = claim.outcome()
        return "not waiting" if record is None else self._run(Run(record, self.outbox), claim)

    def _wait_if_open(self, wait_s: float) -> bool:
        """Wait for so long, or until the lane claims no more jobs. Return whether it claims jobs."""
        if wait_s:
            with self._changed:
                self._changed.wait_for(lambda: self._state is not LaneState.OPEN, wait_s)
        return self._state is LaneState.OPEN

    def _run(self, run: Run, claim: Claim) -> str:
        """Run the job to its end, or until its run is abandoned. Raises as `Claim.check` does."""
        more_slots = run.record.length - 1
        run.on_begin = partial(self._begin, run, claim)
        with self._changed:
            self._runs[run.id] = run
        if more_slots:
            self.take_slots(more_slots)
        try:
            with about(**of_job(run.record)):
                self._run_to_end(run)
        finally:
            with self._changed:
                del self._runs[run.id]
                self._changed.notify_all()
            if more_slots:
                self.take_slots(-more_slots)
        return run.outcome or "abandoned"

    def _begin(self, run: Run, claim: Claim) -> None:
        """Let the events of a run go, once its job is claimed. Raises as `Claim.check` does."""
        if not run.is_claimed:
            run.confirm(claim.check(run.record))
        log.info("started", extra=facts(queue=run.record.queue))
        self._hooks.before_run(run)
        if self._state is LaneState.CLOSED or run.over.is_set():  # perhaps before the claim
            run.abandon()
            self._requeue(run, "drain")
        run.release()

    def _run_to_end(self, run: Run) -> None:
        """Have the runner run the job. Give the job a terminal event for every error, then wait for it.

        Two errors end no job: after `EngineDied` the worker ends and hands the job back. If Redis is away,
        the reconciler requeues the job later.
        """
        began = time.monotonic()
        try:
            if run.is_claimed:
                run.begin()
            if not run.over.is_set():
                self._runner.run_job(run)
        except (ClaimDiffers, NeedsExclusiveWorker):
            raise
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
        run.begin()  # the runner may have met the error before
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
