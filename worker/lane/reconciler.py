"""The reconciler: it makes the lane's runs agree with the jobs that the ledger counts as this worker's."""

from collections.abc import Iterable
from contextlib import suppress

from worker.jobs.errors import JobNotFound
from worker.lane.lane import Lane

__all__ = ["Reconciler"]


class Reconciler:
    """Compares a lane with the ledger, and acts on a difference that it has seen twice.

    A job may have been claimed or ended just now, so a difference that is seen once may be none.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        #: Jobs that the ledger gives to this worker, but that do not run here.
        self._orphaned: set[str] = set()
        #: Jobs that run here, but that the ledger does not give to this worker.
        self._stale: set[str] = set()

    def reconcile(self, claimed: Iterable[str]) -> None:
        """Requeue orphaned jobs and abandon stale runs. The heartbeat calls this with the claimed job ids.

        A job is orphaned if Redis made its claim but the answer was lost, or if its run met a Redis error.
        If its run has ended instead, a failover of Redis has lost the end, which is then sent again. A run is
        stale if another worker has its job, or if the job ended without it.
        """
        lane = self._lane
        ended = lane.outbox.unconfirmed.ended_jobs()
        runs = lane.runs_by_job()
        orphaned = set(claimed) - runs.keys()
        stale = {job_id for job_id, run in runs.items() if run.is_claimed} - set(claimed)
        seen_twice = orphaned & self._orphaned
        if seen_twice & ended:
            lane.outbox.offer_again()
        for job_id in seen_twice - ended:
            with suppress(JobNotFound):  # this Redis may have lost data
                claim = lane.dispatcher.ledger.get(job_id).claim
                lane.dispatcher.requeue(job_id, lane.worker, "redis_lost", claim)
        for job_id in stale & self._stale:
            runs[job_id].abandon()
        self._orphaned, self._stale = orphaned, stale
