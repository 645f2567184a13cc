import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.assets import asset
from tests.unit.test_video_reader import threads
from tests.unit.video_fixtures import gradient, make_clip, read_clip, remux
from worker.jobs.errors import EngineFailed
from worker.video.reader import ClipReader
from worker.video.writer import ClipWriter


def copy(source: Path, target: Path, batch_size: int = 8) -> int:
    """The clip with the pictures it had."""
    with ClipReader(source, batch_size) as reader, ClipWriter(source, target, reader.header) as writer:
        for batch in reader:
            writer.write(batch.frames[: batch.valid].copy(), batch.pts)
        return writer.commit()


def test_size_rate_times_and_pictures_stay(tmp_path: Path) -> None:
    source, target = asset("carphone_pristine.mp4"), tmp_path / "out.mp4"
    size = copy(source, target)
    before, after = read_clip(source), read_clip(target)
    assert size == target.stat().st_size
    assert (after.times, after.rate, after.size) == (before.times, before.rate, before.size)
    difference = np.abs(np.array(after.pictures).astype(int) - np.array(before.pictures))
    assert difference.mean() < 4
    assert target.read_bytes()[36:40] == b"moov", "the index comes first, for players that stream"


@pytest.mark.parametrize(
    ("suffix", "time_base", "pts"),
    [
        ("mp4", Fraction(1, 600), [0, 20, 45, 46, 300, 301, 302, 900, 1800, 1801]),
        ("mkv", Fraction(1, 1000), [500, 533, 567, 600, 601, 602, 4000, 4001]),
        ("ts", Fraction(1, 90_000), [90_000, 93_003, 93_004, 180_000, 900_000]),
        ("mov", Fraction(1001, 30_000), [0, 1, 2, 7, 8, 9]),
    ],
)
def test_every_frame_keeps_its_time(
    tmp_path: Path, suffix: str, time_base: Fraction, pts: Sequence[int]
) -> None:
    pictures = [gradient(index) for index in range(len(pts))]
    source = make_clip(tmp_path / f"in.{suffix}", pictures, pts=pts, time_base=time_base)
    copy(source, tmp_path / "out.mp4", batch_size=3)
    before, after = read_clip(source).times, read_clip(tmp_path / "out.mp4").times
    assert [t - after[0] for t in after] == [t - before[0] for t in before]
    assert len(set(before)) == len(pts)
    assert after[0] == 0


def test_colours_stay_with_a_tagged_colour_space(tmp_path: Path) -> None:
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


def test_sound_is_copied_packet_by_packet(tmp_path: Path) -> None:
    source = remux(asset("bigbuckbunny.mp4"), tmp_path / "in.mp4", seconds=0.3)
    copy(source, tmp_path / "out.mp4")
    before, after = read_clip(source), read_clip(tmp_path / "out.mp4")
    assert len(before.audio) > 10
    assert after.audio == before.audio
    assert after.times == before.times


def with_sound(path: Path, codec: str, video_delay_s: Fraction = Fraction(0)) -> Path:
    """A second of pictures and silence."""
    with av.open(path, "w") as output:
        video, audio = output.add_stream("libx264", rate=25), output.add_stream(codec, rate=48_000)
        assert isinstance(video, av.VideoStream)
        assert isinstance(audio, av.AudioStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(gradient(index))
            frame.pts, frame.time_base = index + round(video_delay_s * 25), Fraction(1, 25)
            output.mux(video.encode(frame))
        for index in range(48):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), "s16", "stereo")
            sound.pts, sound.sample_rate, sound.time_base = index * 1000, 48_000, Fraction(1, 48_000)
            output.mux(audio.encode(sound))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "kept"),
    [("mkv", "aac", True), ("ts", "aac", True), ("mkv", "libopus", True), ("avi", "pcm_mulaw", False)],
)
def test_sound_that_mp4_can_hold_is_kept_in_step(tmp_path: Path, suffix: str, codec: str, kept: bool) -> None:
    source = with_sound(tmp_path / f"in.{suffix}", codec, Fraction(1, 5))
    copy(source, tmp_path / "out.mp4")
    before, after = read_clip(source), read_clip(tmp_path / "out.mp4")
    assert bool(after.audio) == kept
    if kept:
        assert len(after.audio) == len(before.audio)
        lag = (after.audio[5][0] - after.times[5]) - (before.audio[5][0] - before.times[5])
        assert abs(lag) <= Fraction(1, 1000), "Matroska rounds to milliseconds"


def times_that_fall(writer: ClipWriter) -> None:
    for number in range(5):
        writer.write(np.zeros((2, 144, 176, 3), np.uint8), (-number, -number))


def never_committed(writer: ClipWriter) -> None:
    writer.write(np.zeros((2, 144, 176, 3), np.uint8), (0, 1))
    raise KeyError("the caller's own")


@pytest.mark.parametrize(("fail", "error"), [(times_that_fall, EngineFailed), (never_committed, KeyError)])
def test_a_failure_surfaces_and_leaves_no_file_and_no_thread(
    tmp_path: Path, fail: Callable[[ClipWriter], None], error: type[Exception]
) -> None:
    source, target = asset("carphone_pristine.mp4"), tmp_path / "out.mp4"
    target.write_bytes(b"what was there before")
    with ClipReader(source, 4) as reader:
        header = reader.header

    def work() -> None:
        with ClipWriter(source, target, header) as writer:
            fail(writer)
            writer.commit()

    with pytest.raises(error):
        work()
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert target.read_bytes() == b"what was there before"
    assert "clip-writer" not in threads()


def test_a_folder_that_is_not_there_is_the_engines_failure(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="cannot be written"):
        copy(asset("carphone_pristine.mp4"), tmp_path / "none" / "out.mp4")
