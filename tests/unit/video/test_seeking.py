"""PartDecoder finds any part of a clip by its index, with the frames and times of the plain way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame

from tests.support.assets import asset
from tests.support.video.broken_clips import damaged
from tests.support.video.clips import Picture, gradient
from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.video.decoding.damage import TolerantDecoder
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.header import ClipEnd
from worker.video.decoding.options import ReadOptions
from worker.video.decoding.part_decoder import PartDecoder

FRAMES, GOP = 40, 8
MS = Fraction(1, 1000)
TICK = Fraction(1, 12_800)
QUIET = "log-level=error"

#: A frame's time, and a digest of its pixels.
Shown = tuple[int | None, bytes]


def picture(index: int) -> Picture:
    """Return a picture of which most differs from that of any other index, so that codecs have to refer."""
    noise = np.random.default_rng(0).integers(0, 60, (48, 64 + 2 * FRAMES, 3))
    moved = gradient(index % 30) * 0.75 + noise[:, 2 * index : 2 * index + 64]
    return moved.clip(0, 255).astype(np.uint8)


def write(
    path: Path,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    gop: int = GOP,
    keys: Sequence[int] = (),
    first: int = 0,
    pts: Sequence[int] | None = None,
    muxer: Mapping[str, str] | None = None,
    **options: Any,
) -> Path:
    """Write a clip with key frames at least every `gop` frames, and at `keys`.

    Its times begin `first` frames after time 0. `options` go to the encoder.
    """
    tick = {".avi": Fraction(1, 25), ".mkv": MS, ".webm": MS, ".flv": MS}.get(path.suffix, TICK)
    with av.open(path, "w", options=dict(muxer or {})) as output:
        video = output.add_stream(codec, rate=25, options=options)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, pix_fmt
        video.codec_context.gop_size = gop
        if codec in ("libx264", "libx265", "mpeg4", "mpeg2video"):
            video.codec_context.max_b_frames = 3
        video.time_base = video.codec_context.time_base = tick
        for index in range(FRAMES):
            frame = VideoFrame.from_ndarray(picture(index))
            frame.time_base = tick
            frame.pict_type = PictureType.I if index in keys else PictureType.NONE
            frame.pts = pts[index] if pts else round((index + first) / 25 / tick)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


OPEN_GOP: dict[str, Any] = {"x264-params": "open-gop=1:b-adapt=0:scenecut=0"}
INTERLACED: dict[str, Any] = {"x264-params": "interlaced=1"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
REALTIME = {"deadline": "realtime"}

#: Clips that have an index: name, arguments of `write`, and the most packets to decode for any 4 frames.
SEEKABLE: dict[str, tuple[Sequence[str], Mapping[str, Any], int]] = {
    "mp4": (["in.mp4"], {}, 20),
    "mov": (["in.mov"], {}, 20),
    "matroska": (["in.mkv"], {}, 20),
    "open-gop": (["in.mp4"], OPEN_GOP, 24),
    "open-gop-matroska": (["in.mkv"], OPEN_GOP, 24),
    "intra-refresh": (["in.mp4"], {"x264-params": "intra-refresh=1"}, FRAMES),
    "one-key-frame": (["in.mp4"], {"gop": 1000}, FRAMES),
    "key-frames-only": (["in.mp4"], {"gop": 1}, 8),
    "variable-rate": (["in.mp4"], {"pts": [index * index * 90 + index for index in range(FRAMES)]}, 20),
    "edit-list": (["in.mp4"], {"first": -11}, 24),
    "late": (["in.mp4"], {"first": 11}, 20),
    "fragmented": (["in.mp4"], {"muxer": FRAGMENTED}, 20),
    "close-key-frames": (["in.mp4"], {"keys": (20, 22), "forced-idr": "1", "muxer": FRAGMENTED}, 20),
    "hevc": (["in.mp4", "libx265"], {"x265-params": f"{QUIET}:open-gop=0"}, 20),
    "hevc-open-gop": (["in.mkv", "libx265"], {"x265-params": QUIET}, 24),
    "vp8": (["in.webm", "libvpx"], REALTIME, 20),
    "vp9": (["in.webm", "libvpx-vp9"], REALTIME, 20),
    "av1": (["in.mp4", "libsvtav1"], {"preset": "12"}, 24),
    "mjpeg": (["in.mov", "mjpeg", "yuvj420p"], {}, 8),
}

#: Clips whose frames are certain only when all of them are decoded.
PLAIN: dict[str, tuple[Sequence[str], Mapping[str, Any]]] = {
    "avi": (["in.avi"], {}),
    "mpeg-ts": (["in.ts"], {}),
    "flv": (["in.flv"], {}),
    "mpeg-4": (["in.mp4", "mpeg4"], {}),
    "gif": (["in.gif", "gif", "rgb8"], {}),
    "interlaced": (["in.mp4"], INTERLACED),
    "times-missing": (["in.mkv"], {"first": -9, "muxer": {"avoid_negative_ts": "disabled"}}),
    "times-twice": (["in.mkv"], {"pts": [index * 2 // 3 for index in range(FRAMES)]}),
}


def open_clip(path: Path, limits: Limits | None = None) -> PartDecoder:
    return PartDecoder(path, limits or Limits(), ReadOptions())


def read(clip: PartDecoder, first: int, until: int | None = None, *, seek: bool = True) -> list[Shown]:
    """Return what a part shows."""
    return [
        (frame.pts, hashlib.md5(clip.pixels(frame).tobytes(), usedforsecurity=False).digest())
        for frame in clip.part(first, until, seek=seek)
    ]


def read_plainly(path: Path) -> tuple[list[Shown], ClipEnd | None]:
    clip = open_clip(path)
    return read(clip, 0, seek=False), clip.end


@contextmanager
def count_packets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int | None]]:
    """Collect the times of the packets that are decoded."""
    decoded = list[int | None]()
    decode = TolerantDecoder.decode

    def counted(self: TolerantDecoder, packet: Packet[Stream]) -> list[VideoFrame] | None:
        decoded.append(packet.pts)
        return decode(self, packet)

    with monkeypatch.context() as patch:
        patch.setattr(TolerantDecoder, "decode", counted)
        yield decoded


def check_parts(monkeypatch: pytest.MonkeyPatch, path: Path, most: int) -> None:
    """Read parts of a seekable clip in several orders. Each needs at most `most` packets."""
    whole, end = read_plainly(path)
    frames = len(whole)
    for first in (frames - 3, frames // 2 + 1, 3):
        clip = open_clip(path)
        assert (clip.header.seekable, clip.header.frames) == (True, frames)
        with count_packets(monkeypatch) as decoded:
            assert read(clip, first, first + 4) == whole[first : first + 4]
        assert len(decoded) <= most
        assert read(clip, first + 4) == whole[first + 4 :], "the next part"
        assert clip.end == end
        assert read(clip, 7, 9) == whole[7:9], "a part before"
        assert clip.seekable


@pytest.mark.parametrize("name", SEEKABLE)
def test_part_decoder_seeks_and_shows_frames_of_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (file, *stream), options, most = SEEKABLE[name]
    check_parts(monkeypatch, write(tmp_path / file, *stream, **options), most)


@pytest.mark.parametrize(("name", "most"), [("bikes.mp4", 150), ("carphone_pristine.mp4", 120)])
def test_part_decoder_seeks_in_sample_clips(monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    """The second one has one key frame."""
    check_parts(monkeypatch, asset(name), most)


@pytest.mark.parametrize("name", PLAIN)
def test_part_decoder_decodes_other_clips_from_start(tmp_path: Path, name: str) -> None:
    (file, *stream), options = PLAIN[name]
    path = write(tmp_path / file, *stream, **options)
    whole, end = read_plainly(path)
    clip = open_clip(path)
    assert not clip.header.seekable
    assert read(clip, len(whole) - 3) == whole[-3:]
    assert clip.end == end
    assert read(clip, 5, 9) == whole[5:9]


def test_part_decoder_goes_on_without_seeking_to_part_before_next_key_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = open_clip(write(tmp_path / "in.mp4", gop=20))
    read(clip, 0, 8)
    with count_packets(monkeypatch) as decoded:
        read(clip, 12, 16)
    assert len(decoded) == 8


@pytest.mark.parametrize("limits", [Limits(max_frames=FRAMES - 1), Limits(max_duration_s=1.5)])
def test_part_decoder_enforces_limits_of_whole_clip_on_each_part(tmp_path: Path, limits: Limits) -> None:
    clip = open_clip(write(tmp_path / "in.mp4"), limits)
    assert not clip.seekable
    with pytest.raises(BadVideo, match=r"more than 39 frames|longer than 1\.5 seconds"):
        read(clip, FRAMES - 3)


def test_part_decoder_goes_on_without_index_if_told_so(tmp_path: Path) -> None:
    """Another reader may have found that the index is not right."""
    path = write(tmp_path / "in.mp4")
    whole, end = read_plainly(path)
    clip = open_clip(path)
    assert read(clip, 20, 24) == whole[20:24]
    assert read(clip, 30, seek=False) == whole[30:]
    assert (clip.seekable, clip.end) == (False, end)
    assert read(clip, 8, 12) == whole[8:12]


def damage_frame(path: Path, number: int, begin: int) -> Path:
    """Overwrite 40 bytes of the packet of this number, from its byte `begin` on."""
    with av.open(path) as container:
        packet = [bytes(packet) for packet in container.demux(video=0)][number]
    broken = (packet[:begin] + (b"\0" if begin == 5 else b"\xff") * 40 + packet[begin + 40 :])[: len(packet)]
    path.write_bytes(path.read_bytes().replace(packet, broken))
    return path


@pytest.mark.parametrize("begin", [5, 400], ids=["lost", "concealed"])
def test_part_decoder_gives_index_up_at_damaged_frame(tmp_path: Path, begin: int) -> None:
    """The first 4 bytes of a packet are a length. The index would notice a false one."""
    path = damage_frame(write(tmp_path / "in.mp4"), 30, begin)
    whole, end = read_plainly(path)
    assert end is not None
    assert end.concealed or len(whole) < FRAMES
    clip = open_clip(path)
    assert read(clip, 8, 16) == whole[8:16]
    assert clip.seekable
    assert read(clip, 24) == whole[24:]
    assert (clip.seekable, clip.end) == (False, end)
    assert read(clip, 8, 16) == whole[8:16]


def test_part_decoder_gives_index_up_at_interlaced_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip may become interlaced at any frame. The filter then also needs the frames beside it."""
    path = write(tmp_path / "in.mp4", **INTERLACED)
    whole, end = read_plainly(path)
    with monkeypatch.context() as patch:
        patch.setattr(ClipDecoder, "progressive", property(lambda _: True, lambda *_: None))
        clip = open_clip(path)
    assert clip.seekable
    assert read(clip, FRAMES - 3) == whole[-3:]
    assert (clip.seekable, clip.end) == (False, end)


def test_part_decoder_refuses_too_damaged_clip_whatever_part_is_first(tmp_path: Path) -> None:
    clip = open_clip(damaged(tmp_path))
    with pytest.raises(BadVideo, match="is damaged: 12 of its first"):
        read(clip, 60)
