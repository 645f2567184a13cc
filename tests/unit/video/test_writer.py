import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.assets import asset
from tests.support.stack import eventually
from tests.support.video.clips import (
    capture_libav_warnings,
    gradient,
    libav_warnings,
    make_clip,
    make_clip_with_sound,
    read_clip,
    remux,
)
from tests.support.video.pipeline import thread_names
from tests.support.video.sandboxes import BatchReader, open_clip
from worker.jobs.errors import EngineFailed
from worker.jobs.limits import DEFAULTS
from worker.video.decoding.header import ClipEnd
from worker.video.encoding.encoder import Encoder
from worker.video.encoding.encoder_pool import EncoderPool
from worker.video.encoding.joiner import Parts, join
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.writer import SegmentWriter
from worker.video.tracks.report import TracksReport
from worker.video.tracks.tracks import write_tracks


def copy(source: Path, target: Path, batch_size: int = 8, segment_batches: int = 2) -> TracksReport:
    """Write and join the clip with its own pictures."""
    with writer(source, target.parent / "work", batch_size, segment_batches) as (reader, segments):
        for batch in reader:
            segments.write(batch.window[: batch.valid], batch.pts, batch.valid)
        segments.finish(reader.end)
    tracks = target.parent / "tracks"
    with capture_libav_warnings() as found:
        report = write_tracks(source, tracks, DEFAULTS)
        done = SegmentFolder(target.parent / "work").durable()
        parts = Parts([s.path for s in done], done[-1].end, reader.end.tick, tracks, report.start)
        join(source, reader.header, parts, target)
    warnings = {f"track {track}: codec frame size is not set\n" for track in (0, 1)}
    assert set(found) <= warnings, "only Opus in Matroska has no frame size"
    return report


@contextmanager
def writer(
    source: Path, work: Path, batch_size: int = 8, segment_batches: int = 2
) -> Iterator[tuple[BatchReader, SegmentWriter]]:
    with (
        closing(EncoderPool(2)) as encoders,
        open_clip(source, batch_size) as reader,
        SegmentWriter(
            SegmentFolder(work),
            lambda path, threads: Encoder(path, reader.header, threads),
            first=0,
            batches=segment_batches,
            encoders=encoders,
        ) as segments,
    ):
        yield reader, segments


def test_writer_keeps_size_rate_times_and_pictures(tmp_path: Path) -> None:
    source, target = asset("carphone_pristine.mp4"), tmp_path / "out.mp4"
    copy(source, target)
    before, after = read_clip(source), read_clip(target)
    assert (after.times, after.rate, after.size) == (before.times, before.rate, before.size)
    difference = np.abs(np.array(after.pictures).astype(int) - np.array(before.pictures))
    assert difference.mean() < 4
    assert target.read_bytes()[36:40] == b"moov", "the index must come first, for players that stream"
    assert libav_warnings(target) == []


@pytest.mark.parametrize(
    ("suffix", "time_base", "pts"),
    [
        ("mp4", Fraction(1, 600), [0, 20, 45, 46, 300, 301, 302, 900, 1800, 1801]),
        ("mkv", Fraction(1, 1000), [500, 533, 567, 600, 601, 602, 4000, 4001]),
        ("ts", Fraction(1, 90_000), [90_000, 93_003, 93_004, 180_000, 900_000]),
        ("mov", Fraction(1001, 30_000), [0, 1, 2, 7, 8, 9]),
    ],
)
@pytest.mark.parametrize(("batch_size", "segment_batches"), [(1, 1), (3, 1), (5, 1), (2, 2), (16, 4)])
def test_joiner_keeps_time_of_every_frame(
    tmp_path: Path,
    suffix: str,
    time_base: Fraction,
    pts: Sequence[int],
    batch_size: int,
    segment_batches: int,
) -> None:
    pictures = [gradient(index) for index in range(len(pts))]
    source = make_clip(tmp_path / f"in.{suffix}", pictures, pts=pts, time_base=time_base)
    copy(source, tmp_path / "out.mp4", batch_size, segment_batches)
    before, after = read_clip(source).times, read_clip(tmp_path / "out.mp4").times
    assert [t - after[0] for t in after] == [t - before[0] for t in before]
    assert len(set(before)) == len(pts)
    assert after[0] == 0
    assert libav_warnings(tmp_path / "out.mp4") == []
    with av.open(tmp_path / "out.mp4") as container:
        decoded = [packet.dts for packet in container.demux(video=0) if packet.dts is not None]
    assert len(set(decoded)) == len(pts)
    assert decoded == sorted(decoded)


def test_writer_keeps_colours_of_tagged_colour_space(tmp_path: Path) -> None:
    bt709, source, target = 1, tmp_path / "in.mp4", tmp_path / "out.mp4"
    red = np.full((48, 64, 3), (200, 30, 60), np.uint8)
    with av.open(source, "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = bt709
        frame = av.VideoFrame.from_ndarray(red).reformat(format="yuv420p", dst_colorspace=bt709)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    copy(source, target)
    with av.open(target) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace == bt709
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - red).max() <= 4


def test_joiner_copies_sound_packets(tmp_path: Path) -> None:
    source = remux(asset("bigbuckbunny.mp4"), tmp_path / "in.mp4", seconds=0.3)
    copy(source, tmp_path / "out.mp4")
    before, after = read_clip(source), read_clip(tmp_path / "out.mp4")
    assert len(before.audio) > 10
    assert after.audio == before.audio
    assert after.times == before.times
    assert libav_warnings(tmp_path / "out.mp4") == []


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mkv", "aac"), ("ts", "aac"), ("mkv", "libopus")],
)
def test_joiner_keeps_sound_in_sync(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_clip_with_sound(tmp_path / f"in.{suffix}", codec, Fraction(1, 5))
    copy(source, tmp_path / "out.mp4")
    before, after = read_clip(source), read_clip(tmp_path / "out.mp4")
    assert len(after.audio) == len(before.audio)
    lag = (after.audio[5][0] - after.times[5]) - (before.audio[5][0] - before.times[5])
    assert abs(lag) <= Fraction(1, 1000), "Matroska rounds to milliseconds"


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_joiner_keeps_pcm_without_channel_positions(tmp_path: Path, suffix: str) -> None:
    source = make_clip_with_sound(tmp_path / f"in.{suffix}", "pcm_s16le")
    with av.open(source) as container:
        assert container.streams.audio[0].layout.name == "2 channels"
    copy(source, tmp_path / "out.mp4")
    before, after = (
        b"".join(sound for _, sound in read_clip(path).audio) for path in (source, tmp_path / "out.mp4")
    )
    assert len(before) == 48_000 * 4
    assert after == before
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.audio[0].layout.name == "stereo"


def falling_times(segments: SegmentWriter) -> None:
    for number in range(5):
        segments.write(np.zeros((2, 144, 176, 3), np.uint8), (-number, -number), 2)


def never_finished(segments: SegmentWriter) -> None:
    segments.write(np.zeros((2, 144, 176, 3), np.uint8), (0, 1), 2)
    raise KeyError("an error of the caller")


@pytest.mark.parametrize(("fail", "error"), [(falling_times, EngineFailed), (never_finished, KeyError)])
def test_writer_failure_is_raised_and_leaves_no_file_or_thread(
    tmp_path: Path, fail: Callable[[SegmentWriter], None], error: type[Exception]
) -> None:
    def work() -> None:
        with writer(asset("carphone_pristine.mp4"), tmp_path) as (_, segments):
            fail(segments)
            segments.finish(ClipEnd(0))

    with pytest.raises(error):
        work()
    assert os.listdir(tmp_path) == []
    assert "clip-" not in thread_names()


def test_writer_left_early_keeps_published_segments_only(tmp_path: Path) -> None:
    with writer(asset("carphone_pristine.mp4"), tmp_path, 8, 2) as (reader, segments):
        for batch in islice(reader, 5):
            segments.write(batch.window, batch.pts, batch.valid)
        eventually(lambda: len(SegmentFolder(tmp_path).durable()) == 2, "two segments")
    assert [(s.first, s.end) for s in SegmentFolder(tmp_path).durable()] == [(0, 16), (16, 32)]
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("segments", [slice(0), slice(3), slice(1, None)])
def test_joiner_refuses_missing_frames(tmp_path: Path, segments: slice) -> None:
    source = asset("carphone_pristine.mp4")
    copy(source, tmp_path / "out.mp4")
    segments_done = [segment.path for segment in SegmentFolder(tmp_path / "work").durable()]
    parts = Parts(segments_done[segments], 120, 120_000, tmp_path / "none", None)
    with open_clip(source, 8) as reader, pytest.raises(EngineFailed, match="do not hold all"):
        join(source, reader.header, parts, tmp_path / "again.mp4")


def test_writer_takes_segments_in_any_order_and_a_short_one_first(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", [gradient(i) for i in range(10)])
    with writer(source, tmp_path / "work", 4, 1) as (reader, segments):
        batches = [(batch.index, batch.window[: batch.valid].copy(), batch.pts) for batch in reader]
        for index, pictures, pts in reversed(batches):
            segments.jump(4 * index)
            segments.write(pictures, pts, len(pictures))
            segments.flush()
    done = SegmentFolder(tmp_path / "work").durable()
    assert [(segment.first, segment.end) for segment in done] == [(0, 4), (4, 8), (8, 10)]
