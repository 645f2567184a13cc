"""The lane: it claims jobs and runs many of them at once in one solo worker."""

import logging
import threading
import uuid
from contextlib import suppress

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.jobs.dispatch.dispatcher import dispatch, dispatch_next
from worker.jobs.dispatch.recovery import requeue
from worker.jobs.errors import EngineDied, JobFailed, NeedsExclusiveWorker, OutOfMemory, StokerError
from worker.jobs.events import Reason
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.records import Record
from worker.lane.shared_lock import SharedLock
from worker.runs.outbox import Outbox
from worker.runs.run import Run
from worker.runs.runner import Runner

__all__ = ["Lane"]

log = logging.getLogger(__name__)

#: Before a claim is tried again that Redis has not answered.
CLAIM_RETRY_S = 0.5


class Lane:
    """Claims jobs for this worker, and runs up to `runner.slots` of them at once.

    Each job has a waiting thread of the pool; all compute happens in the engine's own thread.
    """

    def __init__(self, ledger: Ledger, outbox: Outbox, runner: Runner, worker: str, device: str) -> None:
        self.ledger = ledger
        self.worker = worker
        self.device = device
        self._outbox = outbox
        self._runner = runner
        self._runs: dict[str, Run] = {}
        self._closed = False
        self._draining = threading.Event()
        self._lock = SharedLock()
        #: Jobs that wait until no other job runs here.
        self._isolated: set[str] = set()
        self._idle = threading.Condition()

    @property
    def running(self) -> int:
        """The number of runs that go on."""
        return len(self._runs)

    def runs_by_job(self) -> dict[str, Run]:
        """Return the runs that go on, by job id."""
        with self._idle:
            return {run.record.id: run for run in self._runs.values()}

    def waits_isolated(self, job_id: str) -> bool:
        """Whether the job waits for the others to end, to be alone."""
        return job_id in self._isolated

    def run(self, job_id: str) -> str:
        """Claim the job and run it to its end; called from the task's thread. What became of it."""
        if self.waits_isolated(job_id):  # by another hint
            return "not waiting"
        try:
            with self._lock.shared():
                return self._claim_and_run(job_id, exclusive=False)
        except NeedsExclusiveWorker as error:
            log.warning("%s", error)
        self._isolated.add(job_id)
        try:
            with self._lock.exclusive():
                return self._claim_and_run(job_id, exclusive=True)
        finally:
            self._isolated.discard(job_id)

    def _claim_and_run(self, job_id: str, exclusive: bool) -> str:
        record = self._claim(job_id, exclusive)
        if record is None:
            with suppress(StokerError, RedisError):  # it was canceled, say: its slot is for another
                dispatch_next(self.ledger, self.ledger.get(job_id).queue)
            return "not waiting"
        run = Run(record, self._outbox)
        with self._idle:
            self._runs[run.id] = run
            closed = self._closed
        try:
            if closed:  # claimed while the others were handed back
                run.abandon()
                self._queue_again(run, "drain")
            else:
                self._run(run)
        finally:
            with self._idle:
                del self._runs[run.id]
                self._idle.notify_all()
        if run.dispatched is not None:
            dispatch(record.queue, run.dispatched)
        else:
            with suppress(RedisError):  # recovery does it too
                dispatch_next(self.ledger, record.queue)
        return run.outcome or "abandoned"

    def _claim(self, job_id: str, exclusive: bool) -> Record | None:
        """Claim the job as soon as Redis answers; None when it is not waiting, or this worker is to end."""
        claim = uuid.uuid4().hex
        while not self._draining.is_set():
            try:
                return self.ledger.claim(job_id, self.worker, self.device, claim=claim, exclusive=exclusive)
            except (RedisConnectionError, RedisTimeoutError) as error:
                log.warning("job %s is not claimed yet: %s", job_id, error)
                self._draining.wait(CLAIM_RETRY_S)
        try:
            dispatch(self.ledger.get(job_id).queue, [job_id])
        except (RedisError, StokerError) as error:
            log.warning("job %s: its hint comes again from recovery: %s", job_id, error)
        return None

    def _run(self, run: Run) -> None:
        try:
            self._runner.run_job(run)
        except EngineDied as error:
            log.error("job %s is to be handed back: %s", run.record.id, error)
        except JobFailed as error:
            run.fail(error.code, str(error))
        except MemoryError:
            log.exception("job %s", run.record.id)
            run.fail(OutOfMemory.code, "the worker ran out of memory")
        except RedisError:
            log.exception("job %s", run.record.id)
            run.abandon()  # the reconciler queues it again
        except Exception:  # whatever happens, a job has an ending
            log.exception("job %s", run.record.id)
            run.fail("internal_error", "the worker met an error of its own; its log says which")
        run.over.wait()

    def drain(self) -> None:
        """Claim no more jobs."""
        self._draining.set()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs; whether that came about."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._runs, timeout_s)

    def hand_back(self, reason: Reason = "drain") -> None:
        """Put what still runs back into its queue, for another worker to go on with."""
        self.drain()
        with self._idle:
            self._closed = True
            runs = list(self._runs.values())
        for run in runs:
            run.abandon()
        for run in runs:
            if not self._queue_again(run, reason):
                return  # Redis is away; one such wait is enough

    def _queue_again(self, run: Run, reason: Reason) -> bool:
        """Put the abandoned run's job back; whether Redis was there to do so."""
        try:
            requeue(self.ledger, run.record.id, self.worker, reason, run.record.attempt)
        except RedisError as error:
            log.warning("job %s comes back when the lease lapses: %s", run.record.id, error)
            return False
        return True
