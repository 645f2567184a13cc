import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.assets import asset
from tests.support.clips import cut, gradient, make_clip, read_clip, remux
from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.video.decoding.reader import BUFFERS, ClipReader

CARPHONE = "carphone_pristine.mp4"


def read_all(path: Path, batch_size: int = 16) -> int:
    with ClipReader(path, batch_size) as reader:
        return sum(batch.valid for batch in reader)


def test_batches_hold_every_frame_with_its_time_in_reused_buffers() -> None:
    expected = read_clip(asset(CARPHONE))
    buffers = set()
    with ClipReader(asset(CARPHONE), 16) as reader:
        header = reader.header
        assert (header.width, header.height, header.rate) == (176, 144, Fraction(30000, 1001))
        for batch in reader:
            buffers.add(batch.frames.ctypes.data)
            assert batch.frames.shape == (16, 144, 176, 3)
            for slot in range(batch.valid):
                number = batch.index * 16 + slot
                assert batch.pts[slot] * header.time_base == expected.times[number]
                assert (batch.frames[slot] == expected.pictures[number]).all()
        assert (batch.index, batch.valid) == (7, 8)
    assert len(buffers) == BUFFERS


@pytest.mark.parametrize("frames", [1, 7, 8, 16])
def test_the_last_batch_may_be_short_or_full_but_not_empty(tmp_path: Path, frames: int) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [gradient(i) for i in range(frames)])
    with ClipReader(clip, 8) as reader:
        valid = [batch.valid for batch in reader]
    assert sum(valid) == frames
    assert all(valid)


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    pts = [0, 3, 1000, 1001, 5000, 90_000, 90_100]
    clip = make_clip(
        tmp_path / "clip.mkv", [gradient(i) for i in range(7)], pts=pts, time_base=Fraction(1, 1000)
    )
    with ClipReader(clip, 4) as reader:
        assert reader.header.time_base == Fraction(1, 1000)
        assert [t for batch in reader for t in batch.pts] == pts


def test_times_that_do_not_rise_are_nudged(tmp_path: Path) -> None:
    """Matroska keeps milliseconds only, so that two frames may have one time; no encoder takes that."""
    pts = [0, 10, 20, 3600, 7200]
    clip = make_clip(
        tmp_path / "clip.mkv", [gradient(i) for i in range(5)], pts=pts, time_base=Fraction(1, 90_000)
    )
    assert read_clip(clip).times[:3] == [0, 0, 0]
    with ClipReader(clip, 5) as reader:
        assert [batch.pts for batch in reader] == [(0, 1, 2, 40, 80)]


def test_a_stream_without_times_gets_its_frame_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "worker.video.decoding.decoder.CLIPS", "h264"
    )  # no upload, but it surely has no times
    clip = make_clip(tmp_path / "clip.h264", [gradient(i) for i in range(5)])
    with ClipReader(clip, 5) as reader:
        times = [t * reader.header.time_base for t in next(iter(reader)).pts]
    assert [t - times[0] for t in times] == [Fraction(i, 25) for i in range(5)]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turned_clip_is_read_upright(tmp_path: Path, turns: int, mirrored: bool) -> None:
    picture = gradient(3)
    stored = np.rot90(picture, turns)
    clip = make_clip(tmp_path / "clip.mp4", [(stored[:, ::-1] if mirrored else stored).copy()] * 3)
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    flip = -1 if mirrored else 1
    show_through(clip, flip * cos, flip * sin, -sin, cos)
    with ClipReader(clip, 4) as reader:
        assert (reader.header.width, reader.header.height) == (64, 48)
        batch = next(iter(reader))
        assert np.abs(batch.frames[0].astype(int) - picture).mean() < 8


def test_a_clip_whose_matrix_shows_nothing_is_read_as_it_is(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [gradient(3)] * 3)
    show_through(clip, 0, 0, 0, 0)
    with ClipReader(clip, 4) as reader:
        assert (reader.header.width, reader.header.height) == (64, 48)
        assert np.abs(next(iter(reader)).frames[0].astype(int) - gradient(3)).mean() < 8


def show_through(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Have the clip's display matrix put what is at (x, y) at (ax + cy, bx + dy)."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    for place, value in ((0, a), (4, b), (12, c), (16, d)):
        content[matrix + place : matrix + place + 4] = (value << 16).to_bytes(4, signed=True)
    path.write_bytes(content)


def test_leaving_early_ends_the_thread_and_closes_the_file() -> None:
    with ClipReader(asset(CARPHONE), 4) as reader:
        assert next(iter(reader)).valid == 4
        assert "clip-reader" in threads()
    assert "clip-reader" not in threads()


def threads() -> str:
    return " ".join(thread.name for thread in threading.enumerate())


def text(folder: Path) -> Path:
    path = folder / "clip.mp4"
    path.write_text("This is not a video.")
    return path


def sound_only(folder: Path) -> Path:
    path = folder / "clip.mp4"
    with av.open(asset("bigbuckbunny.mp4")) as old, av.open(path, "w") as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    return path


def no_frames(folder: Path) -> Path:
    """A fragmented MP4 before its first fragment."""
    path = folder / "clip.mp4"
    with av.open(path, "w", options={"movflags": "empty_moov+frag_keyframe"}) as output:
        stream = output.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    return path


def unknown_codec(folder: Path) -> Path:
    content = asset(CARPHONE).read_bytes()
    path = folder / "clip.mp4"
    path.write_bytes(content.replace(b"avc1", b"zzzz"))
    return path


def index_cut_off(folder: Path) -> Path:
    return cut(asset(CARPHONE), folder / "clip.mp4", 0.5)


def index_first(folder: Path) -> Path:
    return remux(asset(CARPHONE), folder / "whole.mp4", movflags="faststart")


def cut_inside_a_frame(folder: Path) -> Path:
    return cut(index_first(folder), folder / "clip.mp4", 0.5)


def cut_between_frames(folder: Path) -> Path:
    """Where libav sees nothing wrong: the demuxer just ends."""
    whole = index_first(folder)
    with av.open(whole) as container:
        ends = sorted(entry.pos + entry.size for entry in container.streams.video[0].index_entries)
    return cut(whole, folder / "clip.mp4", ends[60])


def one_byte_short(folder: Path) -> Path:
    whole = index_first(folder)
    return cut(whole, folder / "clip.mp4", whole.stat().st_size - 1)


def fragmented(folder: Path) -> Path:
    whole = remux(asset(CARPHONE), folder / "whole.mp4", movflags="frag_every_frame+empty_moov")
    return cut(whole, folder / "clip.mp4", 0.5)


def damaged(folder: Path) -> Path:
    content = bytearray(asset(CARPHONE).read_bytes())
    content[100_000:300_000] = bytes(200_000)
    path = folder / "clip.mp4"
    path.write_bytes(content)
    return path


def changing_size(folder: Path) -> Path:
    small, large = (
        make_clip(
            folder / f"{side}.mpg",
            [gradient(i, side, side) for i in range(5)],
            codec="mpeg2video",
            time_base=Fraction(1, 25),
        )
        for side in (32, 64)
    )
    path = folder / "clip.mpg"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, "cannot be opened"),
        (sound_only, "no video stream"),
        (no_frames, "has no frames"),
        (unknown_codec, "codec is not one"),
        (index_cut_off, "cannot be opened"),
        (cut_inside_a_frame, "cut off"),
        (cut_between_frames, "cut off"),
        (one_byte_short, "cut off"),
        (fragmented, "cut off"),
        (damaged, "cannot be decoded to its end"),
        (changing_size, "changes its frame size"),
    ],
)
def test_a_bad_clip_is_refused_in_a_sentence(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    clip = make(tmp_path)
    with pytest.raises(BadVideo, match=message) as caught:
        read_all(clip)
    assert str(caught.value).endswith(".")
    assert "clip-reader" not in threads()


def test_a_missing_file_and_too_many_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadVideo, match="cannot be opened"):
        ClipReader(tmp_path / "none.mp4", 4)
    with pytest.raises(BadVideo, match="more than 25343 pixels"):
        ClipReader(asset(CARPHONE), 4, limits=Limits(max_pixels=176 * 144 - 1))


def test_an_edit_list_that_skips_frames_is_no_damage(tmp_path: Path) -> None:
    """The header promises more frames then than there are to see."""
    clip = make_clip(tmp_path / "clip.mp4", [gradient(i) for i in range(50)])
    content = bytearray(clip.read_bytes())
    edit = content.index(b"elst") + 4 + 8  # version, flags and count; then duration, start, rate
    content[edit : edit + 4] = (1000).to_bytes(4)  # milliseconds: half of it
    clip.write_bytes(content)
    with av.open(clip) as container:
        assert container.streams.video[0].frames == 50
    assert 20 < read_all(clip) < 50
