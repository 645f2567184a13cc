"""The boards of a clip: they tell who computes which segment, as the ledger knows it."""

import logging
from collections.abc import Callable, Collection

from redis.exceptions import RedisError

from worker.jobs.connection.refusals import is_away
from worker.jobs.ledger.segments import HelpWanted, SegmentPlan, Segments
from worker.jobs.media.files import JobFiles
from worker.jobs.records import Record
from worker.jobs.stored import to_json
from worker.video.share_plan import ClipPlan, Taken

__all__ = ["HelperBoard", "OwnerBoard"]

log = logging.getLogger(__name__)


class OwnerBoard:
    """The `ShareBoard` of the attempt that runs a job."""

    def __init__(self, segments: Segments, record: Record, files: JobFiles) -> None:
        self.worker, self.device = record.worker or "", record.device or ""
        self._segments = segments
        self._record = record
        self._files = files

    def take(self, plan: ClipPlan, *, first: int, held: Collection[int], steal: bool) -> Taken:
        """Take a segment as `ShareBoard` says.

        If Redis does not answer, or has lost the claim, take the next one that the owner does not have.
        Another worker may compute it, too, which does no harm.
        """
        offer, record = SegmentPlan(to_json(plan), plan.count), self._record
        try:
            taken = self._segments.take(
                record.id,
                record.claim or "",
                self.worker,
                offer,
                first=first,
                held=held,
                steal=steal,
            )
        except RedisError as error:
            if not is_away(error):
                raise
            log.warning("the clip goes on without help: %s", error)
            taken = None
        if taken:
            return Taken(taken.number, taken.done)
        return Taken(next((number for number in range(first, plan.count) if number not in held), None))

    def fetch(self) -> None:
        """Make the segments of other workers available."""
        self._files.fetch_work()


class HelperBoard:
    """The segments of a job that this worker computes for its owner, as long as `go_on()` is true."""

    def __init__(
        self,
        segments: Segments,
        wanted: HelpWanted,
        queue: str,
        worker: str,
        device: str,
        go_on: Callable[[], bool],
    ) -> None:
        self._segments = segments
        self._job_id = wanted.job_id
        self._claim = wanted.claim
        self._queue = queue
        self.worker = worker
        self.device = device
        self.go_on = go_on
        #: The segments that this worker has and has not published.
        self.held = {wanted.number}

    def take(self) -> int | None:
        """Take another segment. Return None if there is none."""
        if not self.go_on():
            return None
        wanted = self._segments.help(self._queue, self.worker, self._job_id, self.held)
        if wanted is None:
            return None
        if wanted.claim != self._claim:  # another attempt owns the job now
            self._segments.release(self._job_id, wanted.claim, self.worker, wanted.number)
            return None
        self.held.add(wanted.number)
        return wanted.number

    def finish(self, number: int) -> None:
        """Tell the owner that the segment is published."""
        self._segments.finish(self._job_id, self._claim, self.worker, number)
        self.held.discard(number)

    def release(self) -> None:
        """Free the segments that are not published. Their owner waits for them in vain if this fails."""
        for number in sorted(self.held):
            self._segments.release(self._job_id, self._claim, self.worker, number)
        self.held.clear()
