"""Runs a clip's frames through the model, from the last durable segment of earlier attempts on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from worker.video.decoding.header import ClipEnd
from worker.video.decoding.reader import ClipReader, FrameBatch, Frames
from worker.video.encoding.encoder import RECIPE, Encoder
from worker.video.encoding.open_segment import SegmentEncoder
from worker.video.encoding.records import RecordEncoder, complete_records, to_lines
from worker.video.encoding.result_times import result_times
from worker.video.encoding.segments import Segment, SegmentFolder
from worker.video.encoding.write_errors import map_write_errors
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.device_job import DeviceJob
from worker.video.inference.padding import cut, fill
from worker.video.request import BatchDone, VideoRequest, VideoResult
from worker.video.segment_facts import read_facts
from worker.video.tracks.report import TracksReport

if TYPE_CHECKING:  # torch is imported after the device is pinned
    from worker.video.inference.model_pass import Results

__all__ = ["IndexDiffers", "SegmentRun"]


class IndexDiffers(Exception):
    """Frames that are read are not what the clip's index says, or not those of other workers."""


class SegmentRun:
    """The work on one clip, segment by segment. The job on the device has begun.

    `version` identifies the model's code and weights. Segments of another version, other options, another
    encoder, another batch size or another conversion of colours are never continued.
    """

    def __init__(
        self, request: VideoRequest, reader: ClipReader, job: DeviceJob, version: str, *, pad: bool
    ) -> None:
        self._request = request
        self._reader = reader
        self._job = job
        self._window = job.window
        self._pad = pad
        work = [version, *map(str, (job.window, job.output)), request.pad, dict(request.options)]
        work += [reader.header.form, job.form]
        work += [uuid4().hex] if job.sequential else []
        digest = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]
        with map_write_errors():
            self.folder = SegmentFolder(
                request.work / f"{RECIPE}-{reader.header.decoder}-batch{job.window.size}-{digest}",
                request.publish,
            )

    def process(
        self,
        segments: Sequence[Segment],
        open_writer: Callable[..., SegmentWriter],
        on_batch: Callable[[BatchDone], None],
    ) -> tuple[int, ClipEnd]:
        """Process the frames behind these finished segments. Return the number of frames, and the end.

        Raises `IndexDiffers` if the clip is not what its index says, and one of the segments rests on it.
        """
        reader = self._reader
        done = segments[-1].end if segments else 0
        if (end := self.folder.end(done)) is not None:
            return done, end
        if segments and self._job.stateful:
            self._job.restore(segments[-1].state)
        reader.seekable &= not self.folder.without_index
        batches = reader.batches(self._window, first=done, allocate=self._job.buffer)
        by_index = any(segment.facts.exists() for segment in segments)
        try:
            with open_writer(self.folder, self.open_encoder, first=done) as writer:
                done += self.compute(reader, batches, writer, on_batch, by_index=by_index)
                writer.finish(reader.end)
        except IndexDiffers:
            reader.stop()
            raise
        return done, reader.end

    def durable(self, on_batch: Callable[[BatchDone], None]) -> Sequence[Segment]:
        """Return the finished segments from the clip's first frame on.

        Report those of their batches that are not reported yet. A segment without facts about them does not
        count, nor do those behind it.
        """
        request, found = self._request, []
        for segment in self.folder.durable(request.done, with_state=self._job.stateful):
            if segment.end > request.done:
                facts = read_facts(segment.facts)
                if facts is None:
                    break
                facts.report(request, on_batch)
            found.append(segment)
        return found

    def compute(
        self,
        reader: ClipReader,
        batches: Iterable[FrameBatch],
        writer: SegmentWriter,
        on_batch: Callable[[BatchDone], None],
        *,
        note: Callable[[BatchDone], None] = lambda batch: None,
        by_index: bool = True,
    ) -> int:
        """Run batches that follow each other through the model, and have their results written.

        Return the number of frames. `note` gets the report of each batch before its results are written.
        Raises `IndexDiffers` if the clip is not what its index says, and the work is done `by_index`.
        """
        window, total, frames = self._window, reader.header.frames, 0
        for batch in batches:
            reader.sandbox.check()
            if by_index and not reader.seekable:
                raise IndexDiffers
            self._check_index()
            filled = self._fill(batch)
            pictures = batch.window[: window.before + batch.valid + filled + window.after]
            results, seconds, memory = self._job.run(pictures, batch.valid)
            records = self._records(batch, results)
            done = batch.index * window.size + batch.valid
            report = BatchDone(batch.index, batch.valid, filled, done, total, seconds, memory, records)
            note(report)
            self._write(writer, batch, results, records)
            on_batch(report)
            frames += batch.valid
        if by_index and not reader.seekable:  # the clip may have ended before its index says so
            raise IndexDiffers
        return frames

    def result(
        self, frames: int, end: ClipEnd, size: int, tracks: TracksReport, seconds: float
    ) -> VideoResult:
        """Return the properties of the result of `frames` frames, which is a file of `size` bytes."""
        clip, output = self._reader.header, self._job.output
        header, batches = clip.of_result(output), ceil(frames / self._window.size)
        return VideoResult(
            kind=output.kind,
            results=output.count(frames),
            frames=frames,
            width=header.width,
            height=header.height,
            rate=header.rate,
            duration_s=float((end.tick - clip.start) * clip.time_base),
            batches=batches,
            padded=batches * self._window.size - frames if self._pad else 0,
            concealed=end.concealed,
            bytes=size,
            seconds=seconds,
            decoder=self._reader.decoder,
            tracks=tracks,
        )

    def _check_index(self) -> None:
        """Let later attempts know if frames differ from the clip's index."""
        reader = self._reader
        if reader.header.seekable and not reader.seekable and not self.folder.without_index:
            with map_write_errors():
                self.folder.ignore_index()

    def _fill(self, batch: FrameBatch) -> int:
        """Pad the batch if it is short. Return the number of padded frames."""
        if not self._pad:
            return 0
        window = self._window
        real = window.before + batch.valid + window.after
        fill(batch.window, real, self._request.pad, self._reader.header.form)
        return window.size - batch.valid

    def _records(self, batch: FrameBatch, results: Results) -> list[dict[str, Any]] | None:
        """Return the records of a batch, or None if the results are frames."""
        if self._job.output.kind == "video":
            return None
        facts = cast(Sequence[Mapping[str, Any]], results)
        return complete_records(facts, batch.index * self._window.size, batch.pts, self._reader.header)

    def _write(
        self,
        writer: SegmentWriter,
        batch: FrameBatch,
        results: Results,
        records: list[dict[str, Any]] | None,
    ) -> None:
        """Have the results of a batch written."""
        state = self._job.save_state() if self._job.stateful and writer.segment_ends else None
        if records is not None:
            writer.write(to_lines(records), batch.pts, batch.valid, state)
        else:
            pts = result_times(batch.pts, batch.next_pts, self._job.output)
            writer.write(cut(cast(Frames, results), len(pts)), pts, batch.valid, state)

    def open_encoder(self, path: Path, threads: int) -> SegmentEncoder:
        """Open the encoder of a segment."""
        if self._job.output.kind == "records":
            return RecordEncoder(path)
        return Encoder(path, self._reader.header.of_result(self._job.output), threads)
