"""Interlaced clips: each frame becomes one progressive frame at its time, unless the client forbids it."""

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from tests.support.video.clips import Picture, make_clip
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.deinterlacer import deinterlace
from worker.video.decoding.options import ReadOptions


def bar(position: int) -> Picture:
    """Return a black picture (48,96,3) with a white bar, 8 pixels wide, at this column."""
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:, position : position + 8] = 255
    return picture


def woven(index: int) -> Picture:
    """Return an interlaced picture of a bar that moves by 8 pixels a field. The upper field is the first."""
    picture = bar(16 * index)
    picture[1::2] = bar(16 * index + 8)[1::2]
    return picture


def mark(frame: av.VideoFrame, order: str) -> av.VideoFrame:
    """Return the frame with a mark that says which field is the first. PyAV itself cannot set it."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def interlaced_clip(path: Path, frames: int, codec: str = "mpeg2video", pix_fmt: str = "yuv420p") -> Path:
    with av.open(path, "w") as output:
        options = {"flags": "+ildct+ilme"} | ({"q:v": "2"} if codec == "mpeg2video" else {})
        stream = output.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 96, pix_fmt
        stream.codec_context.gop_size, stream.bit_rate = 1, 4_000_000
        for index in range(frames):
            frame = mark(av.VideoFrame.from_ndarray(woven(index)).reformat(format=pix_fmt), "tff")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def read(path: Path, options: ReadOptions) -> tuple[list[Picture], list[int]]:
    with closing(ClipDecoder(path, options=options)) as decoder:
        frames = [(decoder.upright(frame).astype(int), frame.pts or 0) for frame in decoder.frames]
        tick = decoder.header.time_base
    return [picture for picture, _ in frames], [round(pts * tick * 25) for _, pts in frames]


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_decoder_deinterlaces_frame_by_frame(tmp_path: Path, frames: int) -> None:
    clip = interlaced_clip(tmp_path / "in.mkv", frames)
    pictures, times = read(clip, ReadOptions())
    stored, stored_times = read(clip, ReadOptions(deinterlace=False))
    assert len(pictures) == len(stored) == frames
    assert times == stored_times == list(range(frames))
    for index, (picture, raw) in enumerate(zip(pictures, stored, strict=True)):
        assert np.abs(raw - woven(index)).mean() < 8
        combed = np.abs(np.diff(raw[..., 0], axis=0)).mean()
        assert combed > 25
        if 0 < index < frames - 1:  # bwdif looks at both neighbours
            assert np.abs(np.diff(picture[..., 0], axis=0)).mean() < combed / 4
            assert np.abs(picture - bar(16 * index)).mean() < 12, "the first field is kept"


def marked(index: int, *, interlaced: bool, width: int = 64) -> av.VideoFrame:
    frame = av.VideoFrame(width, 48, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes([10 * index + 16]) * plane.buffer_size)
    frame.time_base = Fraction(1, 90_000)
    frame = mark(frame, "tff" if interlaced else "prog")
    frame.pts = 7 * index
    return frame


def sequence(*kinds: tuple[bool, int]) -> Iterator[av.VideoFrame]:
    return (marked(index, interlaced=kind, width=width) for index, (kind, width) in enumerate(kinds))


@pytest.mark.parametrize(
    "kinds",
    [
        [(False, 64)] * 4,
        [(True, 64)] * 4,
        [(False, 64), (True, 64), (False, 64), (True, 64)],
        [(True, 64), (True, 64), (True, 96), (False, 96), (True, 64)],
        [(True, 64)],
    ],
    ids=["progressive", "interlaced", "mixed", "resized", "single"],
)
def test_deinterlace_keeps_number_order_size_and_times(kinds: list[tuple[bool, int]]) -> None:
    frames = list(deinterlace(sequence(*kinds)))
    assert [frame.pts for frame in frames] == [7 * index for index in range(len(kinds))]
    assert [frame.width for frame in frames] == [width for _, width in kinds]
    lumas = [bytes(memoryview(frame.planes[0]))[0] for frame in frames]
    assert lumas == [10 * index + 16 for index in range(len(kinds))]


def test_deinterlace_passes_progressive_frames_untouched() -> None:
    frames = [marked(index, interlaced=False) for index in range(3)]
    assert all(one is other for one, other in zip(deinterlace(frames), frames, strict=True))


def test_decoder_leaves_progressive_clip_as_it_is(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", [woven(index) for index in range(3)])
    for one, other in zip(
        read(clip, ReadOptions())[0], read(clip, ReadOptions(deinterlace=False))[0], strict=True
    ):
        assert (one == other).all()
