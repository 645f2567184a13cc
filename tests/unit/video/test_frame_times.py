"""Frames are shown in results as long as in their clips."""

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.video.clips import gradient, libav_warnings, make_clip, read_clip
from tests.support.video.copies import copy_clip
from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.video.decoding.decoder import ClipDecoder

MS = Fraction(1, 1000)
TICK = Fraction(1, 12_800)


def shown(path: Path) -> list[Fraction]:
    """Return for how many seconds each frame of the MP4 file is shown."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        times = sorted((p.pts or 0) * p.time_base for p in container.demux(stream) if p.size)
        end = times[0] + (stream.duration or 0) * (stream.time_base or 0)
        assert abs(Fraction(container.duration or 0, 1_000_000) - end) <= MS
    assert libav_warnings(path) == []
    return [later - time for time, later in pairwise([*times, end])]


def make_timed_clip(
    path: Path, durations: Sequence[int], time_base: Fraction, codec: str = "libx264", **options: Any
) -> Path:
    """Write a clip whose frames have these durations in ticks. `options` are those of the stream."""
    with av.open(path, "w") as output:
        video = output.add_stream(codec, rate=25, **{"max_b_frames": 0} | options)
        assert isinstance(video, av.VideoStream)
        video.width, video.height = 64, 48
        video.time_base = video.codec_context.time_base = time_base
        lasts, pts, packets = dict[int, int](), 0, list[Any]()
        for index, duration in enumerate(durations):
            frame = av.VideoFrame.from_ndarray(gradient(index // 3)).reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = pts, time_base
            lasts[pts] = duration
            pts += duration
            packets += video.encode(frame)
        for packet in [*packets, *video.encode(None)]:
            packet.duration = lasts[packet.pts]
            output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "time_base", "durations"),
    [
        ("mkv", "libx264", MS, [1000, 1000, 1000, 1000, 6000, 10_000, 40]),
        ("mkv", "libx264", MS, [33, 33, 34, 33, 33, 34, 33, 250]),
        ("webm", "libvpx", MS, [40, 1, 159, 800, 33, 33, 34]),
        ("mp4", "libx264", TICK, [512, 512, 1024, 512, 12_800 * 7]),
        ("mp4", "libx264", TICK, [512] * 40),
        ("mp4", "libx264", Fraction(1001, 30_000), [1] * 31),
        ("mov", "mpeg4", Fraction(1, 600), [20, 25, 1, 254, 1, 1, 598, 900]),
        ("mp4", "libx264", TICK, [512]),
        ("mkv", "libx264", MS, [2500]),
    ],
)
def test_frames_are_shown_as_long_as_in_clip(
    tmp_path: Path, suffix: str, codec: str, time_base: Fraction, durations: Sequence[int]
) -> None:
    source = make_timed_clip(tmp_path / f"in.{suffix}", durations, time_base, codec)
    copy_clip(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [ticks * time_base for ticks in durations]


def test_frames_of_gif_keep_their_delays(tmp_path: Path) -> None:
    delays = [10, 20, 30, 59, 171]
    pts = [sum(delays[:index]) for index in range(5)]
    source = make_clip(
        tmp_path / "in.gif",
        [gradient(10 * index) for index in range(5)],
        pts=pts,
        time_base=Fraction(1, 100),
        codec="gif",
        pix_fmt="rgb8",
        final_delay="171",
    )
    copy_clip(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [Fraction(delay, 100) for delay in delays]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("frames", [1, 3, 50])
def test_frames_of_avi_with_reordered_frames_keep_their_times(
    tmp_path: Path, codec: str, frames: int
) -> None:
    """AVI has no display times. libav's are late, by two frames here."""
    source = tmp_path / "in.avi"
    make_timed_clip(source, [1] * frames, Fraction(1, 25), codec, max_b_frames=2)
    with av.open(source) as container:
        kinds = {frame.pict_type for frame in container.decode(video=0)}
    assert frames < 50 or av.video.frame.PictureType.B in kinds
    copy_clip(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [Fraction(1, 25)] * frames
    assert read_clip(tmp_path / "out.mp4").times[0] == 0


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_of_asf_with_reordered_frames_keep_their_times(tmp_path: Path, codec: str) -> None:
    """libav's muxer moves all streams later by the delay of the pictures' decoder."""
    source = make_timed_clip(tmp_path / "in.asf", [1] * 50, Fraction(1, 25), codec, max_b_frames=2)
    with av.open(source) as container:
        delay_ms = next(container.decode(video=0)).dts or 0
    copy_clip(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [Fraction(1, 25)] * 50
    with closing(ClipDecoder(source)) as decoder:
        assert 0 < delay_ms == decoder.header.start


def test_frames_of_avi_with_dropped_frames_keep_their_times(tmp_path: Path) -> None:
    """An AVI file has empty chunks in the place of frames that a recorder dropped."""
    durations = [1, 1, 4, 1, 1, 1, 3, 2, 1, 1]
    make_timed_clip(tmp_path / "in.avi", durations, Fraction(1, 25))
    copy_clip(tmp_path / "in.avi", tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [Fraction(ticks, 25) for ticks in durations]


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video"), ("flv", "libx264")])
def test_frames_of_clip_without_durations_get_frame_rate(tmp_path: Path, suffix: str, codec: str) -> None:
    base = MS if suffix == "flv" else Fraction(1, 25)
    source = make_timed_clip(tmp_path / f"in.{suffix}", [40 if suffix == "flv" else 1] * 30, base, codec)
    copy_clip(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [Fraction(1, 25)] * 30


def test_frames_after_clip_of_long_last_frame_are_refused(tmp_path: Path) -> None:
    source = make_timed_clip(tmp_path / "in.mp4", [512, 512, 12_800 * 60], TICK)
    with pytest.raises(BadVideo, match="longer than 59 seconds"):
        copy_clip(source, tmp_path / "out.mp4", Limits(max_duration_s=59))


def test_frames_of_mp4_with_variable_rate_and_reordered_frames_keep_their_times(tmp_path: Path) -> None:
    """libav's muxer states the display duration of the packet decoded last, so the sum is wrong."""
    durations = [512, 1024, 512, 512, 1536, 512, 512, 1024, 1536, 512, 2048, 512, 512, 1024, 512]
    source = make_timed_clip(tmp_path / "in.mp4", durations, TICK, max_b_frames=2)
    with av.open(source) as container:
        stream = container.streams.video[0]
        assert sum(packet.duration or 0 for packet in container.demux(stream)) != sum(durations)
    copy_clip(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [ticks * TICK for ticks in durations]


def test_frames_of_result_are_shown_as_long_again(tmp_path: Path) -> None:
    """MP4 states the durations of reordered frames with variable rate in another order."""
    durations = [512, 512, 1024, 512, 900, 100, 512, 2048, 512, 12_800 * 7]
    make_timed_clip(tmp_path / "in.mp4", durations, TICK)
    for target in ("once.mp4", "twice.mp4"):
        source = tmp_path / "in.mp4" if target == "once.mp4" else tmp_path / "once.mp4"
        copy_clip(source, tmp_path / target)
        assert shown(tmp_path / target) == [ticks * TICK for ticks in durations]
    with av.open(tmp_path / "once.mp4") as container:
        assert any(packet.pts != packet.dts for packet in container.demux(video=0))
