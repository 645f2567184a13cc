"""Helps with the running videos of other workers."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Timer

from redis.exceptions import RedisError

from worker.jobs.errors import EngineDied
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.segments import HelpWanted, Segments
from worker.jobs.logs.context import about
from worker.jobs.media.files import Media
from worker.jobs.stored import from_json
from worker.video.boards import HelperBoard
from worker.video.job_request import job_request
from worker.video.pipeline import VideoPipeline
from worker.video.request import PipelineCanceled
from worker.video.share_plan import ClipPlan
from worker.video.shared.open_clip import CannotHelp
from worker.video.stages import Stages

__all__ = ["VideoHelper"]

log = logging.getLogger(__name__)

#: Seconds between two looks whether the owner still runs the job.
LOOK_S = 1.0
#: The number of jobs that this worker remembers because it cannot help with them.
MAX_REFUSED = 100


class VideoHelper:
    """A worker's help with the videos of others: it computes segments of them with its own pipeline.

    After any error it does not help with that job any more. The owner then computes the segment itself, and
    fails the job if it meets the same error.

    `on_broken` is called, from another thread, with an `EngineDied` if a batch still runs `hang_s` seconds
    after the help had to end.
    """

    def __init__(
        self,
        pipeline: VideoPipeline,
        ledger: Ledger,
        media: Media,
        hang_s: float,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._pipeline = pipeline
        self._ledger = ledger
        self._media = media
        self._hang_s = hang_s
        self._on_broken = on_broken
        self._segments = Segments(ledger.store)
        self._refused: deque[str] = deque(maxlen=MAX_REFUSED)

    def is_wanted(self, queue: str) -> bool:
        """Return whether a job of the queue offers segments. Raises `RedisError`."""
        return self._segments.are_offered(queue)

    def help(self, queue: str, worker: str, device: str, go_on: Callable[[], bool], stopping: Event) -> bool:
        """Help as `worker.lane.helping.Helper` says. Raises `RedisError`, and `EngineDied`."""
        wanted = self._segments.help(queue, worker, refused=self._refused)
        if wanted is None:
            return False
        board = HelperBoard(self._segments, wanted, queue, worker, device, go_on)
        with about(job=wanted.job_id):
            try:
                self._compute(wanted, board, stopping)
            except (EngineDied, RedisError):
                raise
            except PipelineCanceled:
                pass
            except Exception as error:
                log.warning("this worker does not help with the job any more: %r", error)
                self._refused.append(wanted.job_id)
            finally:
                with suppress(RedisError):  # the owner waits for the segments, and then computes them itself
                    board.release()
        return True

    def _compute(self, wanted: HelpWanted, board: HelperBoard, stopping: Event) -> None:
        record, files = self._ledger.get(wanted.job_id), self._media.files(wanted.job_id)
        plan, looked_at = from_json(ClipPlan, wanted.plan), time.monotonic()

        def must_end() -> bool:
            nonlocal looked_at
            if stopping.is_set() or time.monotonic() - looked_at <= LOOK_S:
                return stopping.is_set()
            looked_at = time.monotonic()
            return not self._segments.is_offered(wanted.job_id, wanted.claim)

        with files.checked_out(work=False), self._watched(must_end) as check:
            if not files.remote and not (files.work / plan.folder).exists():
                raise CannotHelp("the job's files are not here, or its segments are of another kind")
            request = job_request(record, files, files.publish, Stages())
            self._pipeline.help_clip(request, plan, board, wanted.number, check)

    @contextmanager
    def _watched(self, must_end: Callable[[], bool]) -> Iterator[Callable[[], None]]:
        """Yield a function that raises `PipelineCanceled` if `must_end()`.

        Report a broken engine if the block still runs `hang_s` seconds after that.
        """
        hangs = EngineDied(
            f"the device still runs a clip of another worker {self._hang_s:.0f} s after its end"
        )
        watch = Timer(self._hang_s, self._on_broken, [hangs])
        watch.daemon = True

        def check() -> None:
            if must_end():
                if watch.ident is None:
                    watch.start()
                raise PipelineCanceled

        try:
            yield check
        finally:
            watch.cancel()
