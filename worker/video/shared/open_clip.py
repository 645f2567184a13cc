"""A clip that is being processed, by one worker or by several."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from worker.video.decoding.header import ClipEnd
from worker.video.decoding.reader import ClipReader
from worker.video.encoding.segments import no_facts
from worker.video.encoding.write_errors import map_write_errors
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.device_job import DeviceJob
from worker.video.request import BatchDone, VideoRequest
from worker.video.segment_run import IndexDiffers, SegmentRun
from worker.video.share_plan import ClipPlan, HelpBoard, ShareBoard
from worker.video.shared.helper import ClipHelper
from worker.video.shared.owner import ClipOwner
from worker.video.shared.read_ahead import ReadAhead

__all__ = ["CannotHelp", "OpenClip"]

log = logging.getLogger(__name__)

#: A clip of fewer segments is not shared: the other worker would hardly be ready before its end.
MIN_SEGMENTS = 3


class CannotHelp(Exception):
    """The segments of this worker would differ from those of the clip's owner."""


@dataclass(frozen=True, slots=True)
class OpenClip:
    """A clip with its reader, its job on the device and the work on its segments.

    `open_reader` opens it once more, and `open_writer` starts to write segments.
    """

    request: VideoRequest
    reader: ClipReader
    job: DeviceJob
    run: SegmentRun
    open_reader: Callable[[], ClipReader]
    open_writer: Callable[..., SegmentWriter]

    def process(self, segment_batches: int, on_batch: Callable[[BatchDone], None]) -> tuple[int, ClipEnd]:
        """Process what earlier attempts have left. Return the number of frames, and the clip's end."""
        run, board, on_new = self.run, self.request.board, _once(on_batch)
        segments = run.durable(on_new)
        plan = self._plan(segments[-1].end if segments else 0, segment_batches)
        open_writer = partial(self.open_writer, batches=segment_batches)
        try:
            if board and plan.count >= MIN_SEGMENTS and self._can_be_shared():
                return self._share(plan, board, on_new)
            return run.process(segments, open_writer, on_new)
        except IndexDiffers:
            log.warning("the clip goes on without help: it is not what its index says")
        with map_write_errors():
            run.folder.ignore_index()
        on_new = _once(on_new, self.request.done)
        return run.process(run.durable(on_new), open_writer, on_new)

    def help(self, plan: ClipPlan, board: HelpBoard, number: int) -> None:
        """Compute segments for the clip's owner, from this one on. Raises `CannotHelp`, `IndexDiffers`."""
        mine = self._plan(plan.start, plan.size // self.job.window.size)
        if plan != mine or not self._can_be_shared():
            raise CannotHelp("this worker has another model, batch size, version or kind of device")
        helper = ClipHelper(self.request, self.run, plan, board, self._read_ahead(plan))
        with self._writer(plan) as writer:
            helper.process(number, writer)

    def _share(
        self, plan: ClipPlan, board: ShareBoard, on_batch: Callable[[BatchDone], None]
    ) -> tuple[int, ClipEnd]:
        reading = self._read_ahead(plan)
        owner = ClipOwner(self.request, self.run, plan, board, reading, on_batch)
        try:
            with self._writer(plan) as writer:
                done = owner.process(writer, self.reader.sandbox.check)
        except IndexDiffers:
            reading.close()
            self.run.folder.facts = no_facts  # the owner knows nothing of the segments that follow
            board.take(plan, first=plan.count, held=(), steal=False)  # so that nobody helps any more
            raise
        reading.close()
        return done

    def _can_be_shared(self) -> bool:
        """Return whether the frames are known, and the model needs no state of earlier ones."""
        exact = self.reader.seekable and not self.run.folder.without_index
        return exact and not self.job.stateful and not self.job.sequential

    def _plan(self, start: int, segment_batches: int) -> ClipPlan:
        size = self.job.window.size * segment_batches
        frames = self.reader.header.frames or 0
        return ClipPlan(self.run.folder.name, size, start, frames, self.job.device)

    def _writer(self, plan: ClipPlan) -> SegmentWriter:
        batches = plan.size // self.job.window.size
        return self.open_writer(self.run.folder, self.run.open_encoder, first=plan.start, batches=batches)

    def _read_ahead(self, plan: ClipPlan) -> ReadAhead:
        return ReadAhead(plan, self.job.window, self.reader, self.open_reader, self.job.buffer)


def _once(on_batch: Callable[[BatchDone], None], reported: int = 0) -> Callable[[BatchDone], None]:
    """Return a function that passes each batch on once, if it gets some of them again.

    Those of the first `reported` frames are not passed on.
    """

    def on_new(batch: BatchDone) -> None:
        nonlocal reported
        if batch.done > reported:
            reported = batch.done
            on_batch(batch)

    return on_new
