from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.assets import asset
from tests.support.video.broken_clips import (
    cut_between_frames,
    cut_inside_a_frame,
    damaged,
    fragmented,
    index_cut_off,
    no_frames,
    one_byte_short,
    sound_only,
    text,
    unknown_codec,
    unlisted_codec,
)
from tests.support.video.clips import gradient, make_clip, read_clip
from tests.support.video.pipeline import thread_names
from tests.support.video.sandboxes import open_clip
from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.reader import BUFFERS, Window

CARPHONE = "carphone_pristine.mp4"


def read_all(path: Path, batch_size: int = 16) -> int:
    with open_clip(path, batch_size) as reader:
        return sum(batch.valid for batch in reader)


def test_reader_yields_every_frame_with_its_time_in_reused_buffers() -> None:
    expected = read_clip(asset(CARPHONE))
    buffers = set()
    with open_clip(asset(CARPHONE), 16) as reader:
        header = reader.header
        assert (header.width, header.height, header.rate) == (176, 144, Fraction(30000, 1001))
        for batch in reader:
            buffers.add(batch.window.ctypes.data)
            assert batch.window.shape == (16, 144, 176, 3)
            for slot in range(batch.valid):
                number = batch.index * 16 + slot
                assert batch.pts[slot] * header.time_base == expected.times[number]
                assert (batch.window[slot] == expected.pictures[number]).all()
        assert (batch.index, batch.valid) == (7, 8)
    assert len(buffers) == BUFFERS


@pytest.mark.parametrize("frames", [1, 7, 8, 16])
def test_reader_last_batch_is_never_empty(tmp_path: Path, frames: int) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [gradient(i) for i in range(frames)])
    with open_clip(clip, 8) as reader:
        valid = [batch.valid for batch in reader]
    assert sum(valid) == frames
    assert all(valid)


def test_reader_keeps_times_of_variable_frame_rate(tmp_path: Path) -> None:
    pts = [0, 3, 1000, 1001, 5000, 90_000, 90_100]
    clip = make_clip(
        tmp_path / "clip.mkv", [gradient(i) for i in range(7)], pts=pts, time_base=Fraction(1, 1000)
    )
    with open_clip(clip, 4) as reader:
        assert reader.header.time_base == Fraction(1, 1000)
        assert [t for batch in reader for t in batch.pts] == pts


def test_reader_makes_times_rise(tmp_path: Path) -> None:
    """Matroska rounds times to milliseconds, so two frames may share one. No encoder accepts that."""
    pts = [0, 10, 20, 3600, 7200]
    clip = make_clip(
        tmp_path / "clip.mkv", [gradient(i) for i in range(5)], pts=pts, time_base=Fraction(1, 90_000)
    )
    assert read_clip(clip).times[:3] == [0, 0, 0]
    with open_clip(clip, 5) as reader:
        assert [batch.pts for batch in reader] == [(0, 1, 2, 40, 80)]


def test_decoder_gives_stream_without_times_its_frame_rate(tmp_path: Path) -> None:
    """A raw H.264 stream has no times. The API accepts no such upload."""
    clip = make_clip(tmp_path / "clip.h264", [gradient(i) for i in range(5)])
    with closing(ClipDecoder(clip, formats="h264")) as decoder:
        times = [(frame.pts or 0) * decoder.header.time_base for frame in decoder.frames]
    assert [t - times[0] for t in times] == [Fraction(i, 25) for i in range(5)]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_reader_turns_clip_upright(tmp_path: Path, turns: int, mirrored: bool) -> None:
    picture = gradient(3)
    stored = np.rot90(picture, turns)
    clip = make_clip(tmp_path / "clip.mp4", [(stored[:, ::-1] if mirrored else stored).copy()] * 3)
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    flip = -1 if mirrored else 1
    set_display_matrix(clip, flip * cos, flip * sin, -sin, cos)
    with open_clip(clip, 4) as reader:
        assert (reader.header.width, reader.header.height) == (64, 48)
        batch = next(iter(reader))
        assert np.abs(batch.window[0].astype(int) - picture).mean() < 8


def test_reader_ignores_display_matrix_that_shows_nothing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [gradient(3)] * 3)
    set_display_matrix(clip, 0, 0, 0, 0)
    with open_clip(clip, 4) as reader:
        assert (reader.header.width, reader.header.height) == (64, 48)
        assert np.abs(next(iter(reader)).window[0].astype(int) - gradient(3)).mean() < 8


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Change the clip's display matrix so that it maps (x, y) to (ax + cy, bx + dy)."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    for place, value in ((0, a), (4, b), (12, c), (16, d)):
        content[matrix + place : matrix + place + 4] = (value << 16).to_bytes(4, signed=True)
    path.write_bytes(content)


def test_reader_left_early_ends_its_thread() -> None:
    with open_clip(asset(CARPHONE), 4) as reader:
        assert next(iter(reader)).valid == 4
        assert "clip-reader" in thread_names()
    assert "clip-reader" not in thread_names()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, "cannot be opened"),
        (sound_only, "no video stream"),
        (no_frames, "has no frames"),
        (unknown_codec, "codec is not supported"),
        (unlisted_codec, "codec is not supported"),
        (index_cut_off, "If its end is missing, send the whole file"),
        (cut_inside_a_frame, "cut off"),
        (cut_between_frames, r"cut off: .* `ffmpeg -i CLIP CONVERTED.mp4`"),
        (one_byte_short, "cut off"),
        (fragmented, "cut off"),
        (damaged, r"is damaged: 12 of its first .* `ffmpeg -i CLIP CONVERTED.mp4`"),
    ],
)
def test_reader_refuses_bad_clip_in_a_sentence(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    clip = make(tmp_path)
    with pytest.raises(BadVideo, match=message) as caught:
        read_all(clip)
    assert str(caught.value).endswith(".")
    assert "clip-reader" not in thread_names()


def test_reader_refuses_missing_file_and_too_many_pixels(tmp_path: Path) -> None:
    with pytest.raises(BadVideo, match="cannot be opened"), open_clip(tmp_path / "none.mp4", 4):
        pass
    limits = Limits(max_pixels=176 * 144 - 1)
    with pytest.raises(BadVideo, match="more than 25343 pixels"), open_clip(asset(CARPHONE), 4, limits):
        pass


def test_reader_accepts_edit_list_that_skips_frames(tmp_path: Path) -> None:
    """The header then states more frames than the clip shows."""
    clip = make_clip(tmp_path / "clip.mp4", [gradient(i) for i in range(50)])
    content = bytearray(clip.read_bytes())
    edit = content.index(b"elst") + 4 + 8  # version, flags and count; then duration, start, rate
    content[edit : edit + 4] = (1000).to_bytes(4)  # milliseconds, half of the clip
    clip.write_bytes(content)
    with av.open(clip) as container:
        assert container.streams.video[0].frames == 50
    assert 20 < read_all(clip) < 50


def test_reader_stops_a_part_early_and_reads_another(tmp_path: Path) -> None:
    """A part that is stopped has not been decoded to its end, so the clip's end is not known."""
    pictures = [gradient(i) for i in range(200)]
    clip = make_clip(tmp_path / "clip.mp4", pictures)
    with open_clip(clip, 4) as reader:
        part = reader.batches(Window(4))
        assert [next(part).index for _ in range(2)] == [0, 1]
        reader.stop()
        assert not hasattr(reader, "end")
        times = [batch.pts for batch in reader.batches(Window(4), first=4, until=12)]
    with open_clip(clip, 4) as reader:
        assert times == [batch.pts for batch in reader][1:3]


def test_reader_stops_a_part_that_has_ended(tmp_path: Path) -> None:
    with open_clip(make_clip(tmp_path / "clip.mp4", [gradient(i) for i in range(6)]), 4) as reader:
        part = reader.batches(Window(4))
        next(part)
        reader.stop()
        assert [batch.valid for batch in reader.batches(Window(4))] == [4, 2]
