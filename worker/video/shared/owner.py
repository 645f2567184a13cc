"""The work of the owner of a clip, with which idle workers may help."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import Event

from worker.jobs.errors import EngineFailed
from worker.video.decoding.header import ClipEnd
from worker.video.encoding.write_errors import map_write_errors
from worker.video.encoding.writer import SegmentWriter
from worker.video.request import BatchDone, VideoRequest
from worker.video.segment_facts import SegmentFacts, read_facts
from worker.video.segment_run import SegmentRun
from worker.video.share_plan import ClipPlan, ShareBoard
from worker.video.shared.read_ahead import Part, ReadAhead
from worker.video.shared.reports import Reports

__all__ = ["ClipOwner"]

#: Seconds between two looks for segments of other workers, if nothing else is left to do.
POLL_S = 0.05
#: The least seconds that the owner waits without any progress before it computes a segment that another
#: worker still has. It waits for three of its own segments if these take longer.
PATIENCE_S = 10.0


class ClipOwner:
    """The owner of a clip. It computes the next free segment, like its helpers, and reports all of them.

    It is the only one that calls `on_batch`, in the order of the clip. A segment that no helper finishes is
    its own in the end, so the clip fails or succeeds as with one worker.
    """

    def __init__(
        self,
        request: VideoRequest,
        run: SegmentRun,
        plan: ClipPlan,
        board: ShareBoard,
        reading: ReadAhead,
        on_batch: Callable[[BatchDone], None],
    ) -> None:
        self._request = request
        self._run = run
        self._plan = plan
        self._board = board
        self._reading = reading
        self._reports = Reports(plan, request.done, on_batch)
        self._own: set[int] = set()
        self._adopted: set[int] = set()
        #: The reports of own segments that are not published yet.
        self._noted: dict[int, list[BatchDone]] = {}
        self._pause = Event()
        self._progress_at = time.monotonic()
        self._longest_s = 0.0

    def process(self, writer: SegmentWriter, check: Callable[[], None]) -> tuple[int, ClipEnd]:
        """Process all segments. Return the number of frames, and the clip's end.

        `check` raises an error if the work shall end early.
        """
        self._run.folder.facts = self._facts
        self._adopt(range(self._plan.count))  # those of an earlier attempt
        part = self._begin()
        while self._reports.first < self._plan.count:
            check()
            if part is None:
                self._pause.wait(POLL_S)
                part = self._begin()
            else:
                following = self._begin()  # its frames are decoded meanwhile
                self._compute(part, writer)
                part = following
        return self._plan.frames, self._finish(writer)

    def _begin(self) -> Part | None:
        """Take a segment, and begin to read it. Return None if there is none now."""
        number = self._take()
        if number is None:
            return None
        self._own.add(number)
        return self._reading.begin(number)

    def _take(self) -> int | None:
        waited_s = time.monotonic() - self._progress_at
        steal = waited_s > max(PATIENCE_S, 3 * self._longest_s)
        known = {number for number in self._own | self._adopted if number >= self._reports.first}
        number, done = self._board.take(self._plan, first=self._reports.first, held=known, steal=steal)
        new = set(done) - known
        if new:
            self._board.fetch()
            self._adopt(new)
        if number is None and steal:  # a segment that was published is not here
            number = min(new - self._adopted, default=None)
        return number

    def _adopt(self, numbers: Collection[int]) -> None:
        """Report those of the segments that other workers or earlier attempts have published."""
        for segment in self._run.folder.with_facts():
            number = self._plan.number(segment.first)
            if number in numbers and self._plan.span(number) == (segment.first, segment.end):
                facts = read_facts(segment.facts)
                if facts and not (self._plan.is_last(number) and self._end() is None):
                    self._adopt_one(number, facts)

    def _adopt_one(self, number: int, facts: SegmentFacts) -> None:
        if number in self._adopted:
            return
        self._adopted.add(number)
        for stage, seconds in facts.stages.items():
            self._request.stages.add(stage, seconds)
        self._reports.add(number, facts.batches)
        self._progress_at = time.monotonic()

    def _compute(self, part: Part, writer: SegmentWriter) -> None:
        began = time.monotonic()
        writer.jump(self._plan.span(part.number)[0])

        def report(batch: BatchDone) -> None:
            self._reports.add(part.number, [batch])

        noted = self._noted[part.number] = []
        self._run.compute(part.reader, part.batches, writer, report, note=noted.append)
        if self._plan.is_last(part.number):
            writer.finish(part.reader.end)
        self._progress_at = time.monotonic()
        self._longest_s = max(self._longest_s, self._progress_at - began)

    def _facts(self, first: int, end: int) -> str | None:
        """Return the facts about an own segment that is published before its batches are reported."""
        number = self._plan.number(first)
        batches = self._noted.pop(number)
        if number <= self._reports.first:  # they are reported as soon as they are done
            return None
        return SegmentFacts(batches).to_text(self._board.worker, self._board.device)

    def _finish(self, writer: SegmentWriter) -> ClipEnd:
        writer.flush()
        if (end := self._end()) is None:
            raise EngineFailed("the clip's end is not known, although all of its frames are done")
        with map_write_errors():  # publishing waits until the segments before are published
            self._run.folder.complete(self._plan.frames, end)
        return end

    def _end(self) -> ClipEnd | None:
        return self._run.folder.end(self._plan.frames)
