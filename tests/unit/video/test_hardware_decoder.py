"""PartDecoder with a decoder that may fail, which stands for a GPU: the CPU goes on from where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from av.video.frame import VideoFrame

from tests.support.assets import asset
from tests.support.video.broken_clips import damaged
from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.video.decoding.ahead import decode_ahead
from worker.video.decoding.clip_index import AccessPoint
from worker.video.decoding.indexed_decoder import IndexedDecoder, NotIndexed
from worker.video.decoding.nvdec_decoder import NvdecDecoder
from worker.video.decoding.options import ReadOptions
from worker.video.decoding.part_decoder import PartDecoder

#: A clip of 250 frames, of which 30, 76 and 137 are key frames.
CLIP = "bikes.mp4"
Shown = tuple[int | None, bytes]


class StandIn(IndexedDecoder):
    """A decoder with a name of its own, which fails after a number of frames."""

    name = "stand-in"

    def __init__(self, path: Path, limits: Limits, indexed: IndexedDecoder, *, fails_after: int) -> None:
        super().__init__(path, limits, progressive=indexed.progressive)
        self.left = fails_after

    def frames(self, point: AccessPoint) -> Iterator[VideoFrame]:
        for frame in super().frames(point):
            if not self.left:
                raise NotIndexed
            self.left -= 1
            yield frame


def test_decode_ahead_yields_frames_and_then_error_of_other_thread() -> None:
    def decode() -> Iterator[VideoFrame]:
        for _ in range(9):
            yield VideoFrame(16, 16)
        raise NotIndexed

    found = list[VideoFrame]()
    with ThreadPoolExecutor(1) as thread, pytest.raises(NotIndexed):
        found.extend(decode_ahead(decode(), thread))
    assert len(found) == 9


def open_clip(path: Path, fails_after: int) -> PartDecoder:
    return PartDecoder(path, Limits(), ReadOptions(), partial(StandIn, fails_after=fails_after))


def read(clip: PartDecoder, first: int, until: int | None = None) -> list[Shown]:
    return [(frame.pts, clip.pixels(frame).tobytes()) for frame in clip.part(first, until)]


def read_on_cpu(path: Path, first: int, until: int | None = None) -> list[Shown]:
    return read(PartDecoder(path, Limits(), ReadOptions()), first, until)


def test_part_decoder_prefers_hardware_for_whole_clip() -> None:
    clip = open_clip(asset(CLIP), fails_after=1000)
    assert clip.header.decoder == "stand-in"
    assert len(read(clip, 0)) == 250
    assert (clip.decoder, clip.seekable) == ("stand-in", True)


@pytest.mark.parametrize("fails_after", [0, 1, 33, 59])
def test_part_decoder_goes_on_with_cpu_from_frame_where_hardware_fails(fails_after: int) -> None:
    clip = open_clip(asset(CLIP), fails_after)
    assert read(clip, 40, 90) == read_on_cpu(asset(CLIP), 40, 90)
    assert (clip.header.decoder, clip.decoder, clip.seekable) == ("stand-in", "libav", True)


@pytest.mark.parametrize("fails_after", [30, 1000])
def test_part_decoder_with_hardware_refuses_too_damaged_clip(tmp_path: Path, fails_after: int) -> None:
    clip = open_clip(damaged(tmp_path), fails_after)
    with pytest.raises(BadVideo, match="is damaged: 12 of its first"):
        read(clip, 0)
    assert clip.decoder == "libav"


def test_part_decoder_uses_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    clip = PartDecoder(asset(CLIP), Limits(), ReadOptions(), NvdecDecoder)
    assert clip.header.decoder == "libav"
    assert len(read(clip, 245)) == 5


@pytest.mark.parametrize(("pixels", "suits"), [(250 * 640 * 360, False), (1, True)])
def test_nvdec_decoder_is_for_clips_of_enough_pixels(
    monkeypatch: pytest.MonkeyPatch, pixels: int, suits: bool
) -> None:
    """Without a GPU, the error says whether the decoder has tried to open one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("worker.video.decoding.nvdec_decoder.MIN_PIXELS", pixels)
    indexed = IndexedDecoder(asset(CLIP), Limits(), progressive=True)
    with pytest.raises(NotIndexed) as caught:
        NvdecDecoder(asset(CLIP), Limits(), indexed)
    assert (caught.value.__cause__ is not None) == suits
