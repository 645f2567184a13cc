"""The work of a helper: segments of a clip that another worker owns."""

from __future__ import annotations

from worker.video.encoding.writer import SegmentWriter
from worker.video.request import BatchDone, VideoRequest
from worker.video.segment_facts import SegmentFacts
from worker.video.segment_run import SegmentRun
from worker.video.share_plan import ClipPlan, HelpBoard
from worker.video.shared.read_ahead import Part, ReadAhead

__all__ = ["ClipHelper"]


class ClipHelper:
    """A helper of a clip's owner. It leaves its reports beside its segments."""

    def __init__(
        self, request: VideoRequest, run: SegmentRun, plan: ClipPlan, board: HelpBoard, reading: ReadAhead
    ) -> None:
        self._request = request
        self._run = run
        self._plan = plan
        self._board = board
        self._reading = reading
        self._batches: dict[int, list[BatchDone]] = {}

    def process(self, number: int, writer: SegmentWriter) -> None:
        """Process this segment, and others as long as there are any."""
        self._run.folder.facts, self._run.folder.on_added = self._facts, self._finish
        part: Part | None = self._reading.begin(number)
        while part:
            following = self._begin()  # its frames are decoded meanwhile
            self._compute(part, writer)
            part = following if self._board.go_on() else None
        writer.flush()

    def _begin(self) -> Part | None:
        number = self._board.take()
        return None if number is None else self._reading.begin(number)

    def _compute(self, part: Part, writer: SegmentWriter) -> None:
        batches = self._batches[part.number] = []
        writer.jump(self._plan.span(part.number)[0])
        self._run.compute(part.reader, part.batches, writer, lambda _: None, note=batches.append)
        if self._plan.is_last(part.number):
            writer.finish(part.reader.end)
            self._board.finish(part.number)  # now, because the owner needs the clip's end, too

    def _facts(self, first: int, end: int) -> str:
        batches = self._batches.pop(self._plan.number(first))
        facts = SegmentFacts(batches, self._request.stages.take())
        return facts.to_text(self._board.worker, self._board.device)

    def _finish(self, first: int, end: int) -> None:
        number = self._plan.number(first)
        if not self._plan.is_last(number):
            self._board.finish(number)
