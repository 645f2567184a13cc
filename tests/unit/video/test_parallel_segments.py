"""Segments that are encoded at the same time, with encoders that finish when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support.stack import eventually
from tests.support.video.clips import gradient
from worker.jobs.errors import DiskFull, EngineFailed
from worker.jobs.media.durable import publish
from worker.video.colour.tags import ColourTags
from worker.video.decoding.header import ClipEnd, ClipHeader
from worker.video.encoding import encoder_pool
from worker.video.encoding.encoder import Encoder
from worker.video.encoding.encoder_pool import EncoderPlan, EncoderPool
from worker.video.encoding.records import RecordEncoder
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.writer import SegmentWriter

#: Time limit of a step of another thread.
WAIT_S = 60.0
#: A batch of one frame.
FRAME = np.zeros((1, 48, 64, 3), np.uint8)
BT709 = ColourTags(1, 1, 1)


class Encoders:
    """Makes encoders that write the first value of each frame into a text file. `allow` lets them do it.

    The number of an encoder is that of its segment of `batches` batches.
    """

    def __init__(self, batches: int = 1, fail_at: int | None = None) -> None:
        self.batches = batches
        self._fail_at = fail_at
        self._turns: dict[int, threading.Semaphore] = {}
        self.opened = 0
        self.encoding: list[int] = []
        self.finished: list[int] = []

    def open(self, path: Path, threads: int) -> ScriptedEncoder:
        self.opened += 1
        return ScriptedEncoder(self, path)

    def allow(self, number: int, batches: int = 1) -> None:
        """Let an encoder encode so many more batches."""
        self._turn(number).release(batches)

    def has_finished(self, number: int) -> bool:
        return number in self.finished

    def begin(self, number: int) -> None:
        self.encoding.append(number)
        assert self._turn(number).acquire(timeout=WAIT_S)
        if number == self._fail_at:
            raise OSError(28, "No space left on device")

    def _turn(self, number: int) -> threading.Semaphore:
        return self._turns.setdefault(number, threading.Semaphore(0))


class ScriptedEncoder:
    suffix = ".nut"

    def __init__(self, encoders: Encoders, path: Path) -> None:
        self._encoders = encoders
        self._file = path.open("w", encoding="utf-8")

    def encode(self, results: Any, pts: Sequence[int]) -> None:
        self._number = pts[0] // self._encoders.batches
        self._encoders.begin(self._number)
        self._file.writelines(f"{frame[0, 0, 0]}\n" for frame in results)

    def finish(self) -> None:
        self._file.close()
        self._encoders.finished.append(self._number)

    def close(self) -> None:
        self._file.close()


@contextmanager
def writer(
    folder: SegmentFolder,
    open_encoder: Callable[[Path, int], Any],
    *,
    encoders: int = 3,
    batches: int = 1,
    first: int = 0,
) -> Iterator[SegmentWriter]:
    with closing(EncoderPool(encoders, cores=2 * encoders)) as pool:
        yield SegmentWriter(folder, open_encoder, first=first, batches=batches, encoders=pool)


def done(folder: SegmentFolder) -> list[tuple[int, int]]:
    return [(segment.first, segment.end) for segment in folder.durable()]


def write(segments: SegmentWriter, frames: Sequence[int], **state: Any) -> None:
    for number in frames:
        segments.write(FRAME + np.uint8(number), (number,), 1, **state)


def test_writer_publishes_in_order_whichever_encoder_is_first(tmp_path: Path) -> None:
    published: list[str] = []

    def record(partial: Path, target: Path) -> None:
        published.append(target.name[:17])
        publish(partial, target)

    folder, encoders = SegmentFolder(tmp_path, record), Encoders()
    with writer(folder, encoders.open) as open_writer, open_writer as segments:
        write(segments, range(3))
        for number in (2, 1):
            encoders.allow(number)
            eventually(partial(encoders.has_finished, number), "an encoder")
        assert published == []
        encoders.allow(0)
        segments.finish(ClipEnd(3))
    assert encoders.finished == [2, 1, 0]
    assert published[:3] == ["00000000-00000001", "00000001-00000002", "00000002-00000003"]
    assert [segment.path.read_text() for segment in folder.durable()] == ["0\n", "1\n", "2\n"]


def test_writer_that_is_killed_leaves_no_gap(tmp_path: Path) -> None:
    """The middle one of three segments never gets ready."""
    folder, encoders = SegmentFolder(tmp_path), Encoders()
    with writer(folder, encoders.open) as open_writer, open_writer as segments:
        write(segments, range(3))
        encoders.allow(2)
        encoders.allow(0)
        eventually(lambda: done(folder), "the first segment")
        eventually(lambda: 2 in encoders.finished, "the last encoder")
        assert done(folder) == [(0, 1)]
        names = {path.name for path in tmp_path.iterdir() if path.suffix == ".nut"}
        assert len(names) == 1, "a segment behind the gap was published"
        encoders.allow(1)
        segments.finish(ClipEnd(3))
    assert done(folder) == [(0, 1), (1, 2), (2, 3)]


def test_write_waits_while_frames_take_too_much_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_pool, "WAITING_BYTES", 4 * FRAME.nbytes)
    folder, encoders, written = SegmentFolder(tmp_path), Encoders(20), 0

    def produce(segments: SegmentWriter) -> None:
        nonlocal written
        for number in range(20):
            write(segments, [number])
            written += 1

    with writer(folder, encoders.open, batches=20) as open_writer, open_writer as segments:
        with ThreadPoolExecutor(1) as producer:
            production = producer.submit(produce, segments)
            for encoded in range(16):
                eventually(lambda: written >= encoded + 4, "four batches that wait")  # noqa: B023
                assert written == encoded + 4
                encoders.allow(0)
            encoders.allow(0, 4)
            production.result(WAIT_S)
        segments.finish(ClipEnd(20))
    assert done(folder) == [(0, 20)]


def test_write_waits_while_segments_are_not_published(tmp_path: Path) -> None:
    """A store that is slow, or away, must not let files and open encoders add up."""
    may_publish = threading.Event()

    def wait(partial: Path, target: Path) -> None:
        assert may_publish.wait(WAIT_S)
        publish(partial, target)

    folder, encoders = SegmentFolder(tmp_path, wait), Encoders()
    with writer(folder, encoders.open, encoders=2) as open_writer, open_writer as segments:
        for number in range(9):
            encoders.allow(number)
        with ThreadPoolExecutor(1) as producer:
            production = producer.submit(write, segments, range(9))
            eventually(lambda: len(encoders.finished) == 3, "segments that wait to be published")
            assert encoders.opened == 3
            may_publish.set()
            production.result(WAIT_S)
        segments.finish(ClipEnd(9))
    assert len(done(folder)) == 9


def test_error_of_an_encoder_ends_the_wait_of_write(tmp_path: Path) -> None:
    folder, encoders = SegmentFolder(tmp_path), Encoders(fail_at=1)
    with writer(folder, encoders.open) as open_writer, open_writer as segments:
        with ThreadPoolExecutor(1) as producer:
            production = producer.submit(write, segments, range(9))
            eventually(lambda: len(encoders.encoding) == 3, "three busy encoders")
            encoders.allow(1)
            with pytest.raises(DiskFull):
                production.result(WAIT_S)
        with pytest.raises(DiskFull):
            segments.finish(ClipEnd(9))
        encoders.allow(0)
        encoders.allow(2)
    assert list(tmp_path.iterdir()) == []
    assert 3 not in encoders.encoding


def test_error_of_publishing_ends_the_writer(tmp_path: Path) -> None:
    def fail(partial: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    folder, encoders = SegmentFolder(tmp_path, fail), Encoders()
    with writer(folder, encoders.open) as open_writer, open_writer as segments:
        write(segments, range(2))
        encoders.allow(0)
        encoders.allow(1)
        with pytest.raises(EngineFailed):
            segments.finish(ClipEnd(2))
    assert list(tmp_path.iterdir()) == []


def test_error_of_opening_an_encoder_is_raised_and_leaves_no_file(tmp_path: Path) -> None:
    def fail(path: Path, threads: int) -> Any:
        path.touch()
        raise OSError(28, "No space left on device")

    with writer(SegmentFolder(tmp_path), fail) as open_writer, open_writer as segments:
        write(segments, [0])
        with pytest.raises(DiskFull):
            segments.flush()
    assert list(tmp_path.iterdir()) == []


def test_writer_that_is_left_drops_the_segment_that_lacks_batches(tmp_path: Path) -> None:
    """It has one of two batches, which is being encoded. The segment before it has all of its batches."""
    folder, encoders = SegmentFolder(tmp_path), Encoders(2)
    with (
        writer(folder, encoders.open, encoders=2, batches=2) as segments,
        ThreadPoolExecutor(1) as leaver,
    ):
        write(segments, range(2))
        eventually(lambda: encoders.encoding == [0], "the first batch")
        write(segments, [2])
        eventually(lambda: encoders.encoding == [0, 1], "the third batch")
        left = leaver.submit(segments.__exit__, KeyError, KeyError("of the caller"), None)
        encoders.allow(1)
        encoders.allow(0, 2)
        left.result(WAIT_S)
    assert encoders.finished == [0]
    assert done(folder) == [(0, 2)]
    assert len(list(tmp_path.iterdir())) == 1


def test_writer_stores_state_before_the_segment_and_in_order(tmp_path: Path) -> None:
    folder, encoders = SegmentFolder(tmp_path), Encoders()
    with writer(folder, encoders.open) as open_writer, open_writer as segments:
        for number in range(3):
            write(segments, [number], state=lambda path, text=f"state {number}": path.write_text(text))
        for number in (2, 1, 0):
            encoders.allow(number)
        segments.finish(ClipEnd(3))
    states = [segment.state.read_text() for segment in folder.durable(with_state=True)]
    assert states == ["state 0", "state 1", "state 2"]


def test_writer_makes_one_segment_in_the_middle_of_a_clip(tmp_path: Path) -> None:
    folder, encoders = SegmentFolder(tmp_path), Encoders(4)
    encoders.allow(24, 2)
    with writer(folder, encoders.open, batches=4, first=96) as open_writer, open_writer as segments:
        write(segments, range(96, 98))
        segments.flush()
    assert [path.name[:17] for path in tmp_path.iterdir()] == ["00000096-00000098"]


def test_writer_writes_records_in_order(tmp_path: Path) -> None:
    folder = SegmentFolder(tmp_path)
    with (
        writer(folder, lambda path, threads: RecordEncoder(path), batches=2) as open_writer,
        open_writer as segments,
    ):
        for number in range(7):
            segments.write([f'{{"frame":{number}}}'], (number,), 1)
        segments.finish(ClipEnd(7))
    assert done(folder) == [(0, 2), (2, 4), (4, 6), (6, 7)]
    lines = "".join(segment.path.read_text() for segment in folder.durable()).splitlines()
    assert lines == [f'{{"frame":{number}}}' for number in range(7)]


def test_writer_copies_frames_that_the_caller_overwrites(tmp_path: Path) -> None:
    folder, encoders, frame = SegmentFolder(tmp_path), Encoders(8), FRAME.copy()
    with writer(folder, encoders.open, batches=8) as open_writer, open_writer as segments:
        for number in range(4):
            frame[:] = number
            segments.write(frame, (number,), 1)
        encoders.allow(0, 4)
        segments.finish(ClipEnd(4))
    assert folder.durable()[0].path.read_text() == "0\n1\n2\n3\n"


def test_clips_share_one_encoder(tmp_path: Path) -> None:
    """The clip that was first has no frames for the encoder, and does not keep it from the other one."""
    folders, encoders = [SegmentFolder(tmp_path / name) for name in "ab"], Encoders(2)
    with closing(EncoderPool(1)) as pool:
        options: dict[str, Any] = {"first": 0, "batches": 2, "encoders": pool}
        with (
            SegmentWriter(folders[0], encoders.open, **options) as one,
            SegmentWriter(folders[1], encoders.open, **options) as other,
        ):
            encoders.allow(0, 4)
            write(one, [0])
            write(other, range(2))
            other.finish(ClipEnd(2))
            write(one, [1])
            one.finish(ClipEnd(2))
    assert [done(folder) for folder in folders] == [[(0, 2)], [(0, 2)]]


@pytest.mark.parametrize(
    ("encoders", "cores", "height", "plan"),
    [
        (None, 1, 720, EncoderPlan(1, 2, 3)),
        (None, 2, 720, EncoderPlan(1, 2, 3)),
        (None, 4, 720, EncoderPlan(2, 3, 6)),
        (None, 16, 720, EncoderPlan(8, 4, 21)),
        (None, 16, 1080, EncoderPlan(4, 8, 10)),
        (None, 16, 2160, EncoderPlan(1, 16, 2)),
        (2, 16, 720, EncoderPlan(2, 15, 6)),
    ],
)
def test_plan_goes_by_cores_and_memory(
    encoders: int | None, cores: int, height: int, plan: EncoderPlan
) -> None:
    """The batches have 16 frames of RGB, and the segments four batches."""
    with closing(EncoderPool(encoders, cores)) as pool:
        found = pool.plan(16 * height * height * 16 // 9 * 3, 4)
    assert found == plan


def test_segments_of_encoders_with_other_threads_share_their_header(tmp_path: Path) -> None:
    """The result has the header (SPS and PPS) of its first segment only."""
    clip = ClipHeader(640, 480, None, Fraction(25), Fraction(1, 25), 0, BT709, None)
    headers = set()
    for threads in (1, 2, 4, 16):
        path = tmp_path / f"{threads}.nut"
        with closing(Encoder(path, clip, threads)) as encoder:
            encoder.encode(np.tile(gradient(0), (20, 10, 10, 1)), range(20))
            encoder.finish()
        with av.open(path) as container:
            packet = next(container.demux(video=0))
            header, units = packet.stream.codec_context.extradata or b"", bytes(packet)
        headers.add(tuple(unit for unit in (header + units).split(b"\0\0\1") if unit[0] & 31 in (7, 8)))
    assert len(headers) == 1
    assert len(headers.pop()) >= 2
