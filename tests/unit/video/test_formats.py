"""Formats, sizes and streams of clips that people really have."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.bombs import resized_midway
from tests.support.video.clips import Picture, gradient, make_clip, read_clip
from tests.support.video.pictures import numbered_picture, shown_number
from tests.support.video.pipeline import stub_pipeline
from worker.jobs.errors import InvalidInput
from worker.jobs.limits import Limits
from worker.jobs.media.probe.probe import CLIPS, MAX_OTHER_STREAMS, open_media, probe
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.options import OddSize, ReadOptions
from worker.video.request import VideoRequest


def decode(path: Path, options: ReadOptions | None = None) -> tuple[list[Picture], list[Fraction]]:
    with closing(ClipDecoder(path, options=options or ReadOptions())) as decoder:
        frames = [(decoder.upright(frame).copy(), frame.pts or 0) for frame in decoder.frames]
        assert {picture.shape for picture, _ in frames} == {(decoder.header.height, decoder.header.width, 3)}
        return [picture for picture, _ in frames], [pts * decoder.header.time_base for _, pts in frames]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("clip.wmv", "wmv2", "yuv420p"),
        ("clip.wmv", "wmv1", "yuv420p"),
        ("clip.wmv", "msmpeg4", "yuv420p"),
        ("clip.mxf", "mpeg2video", "yuv420p"),
        ("clip.mxf", "mpeg2video", "yuv422p"),
        ("clip.apng", "apng", "rgb24"),
        ("clip.apng", "apng", "rgba"),
        ("clip.y4m", "wrapped_avframe", "yuv420p"),
        ("clip.y4m", "wrapped_avframe", "yuv444p"),
    ],
)
def test_probe_and_decoder_read_format(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    clip = make_clip(
        tmp_path / name,
        [numbered_picture(index) for index in range(9)],
        codec=codec,
        pix_fmt=pix_fmt,
        time_base=Fraction(1, 25),
    )
    info = probe(clip.rename(tmp_path / "upload"))
    assert (info.width, info.height) == (64, 48)
    pictures, times = decode(tmp_path / "upload")
    assert [shown_number(picture) for picture in pictures] == list(range(9))
    assert [time - times[0] for time in times] == [Fraction(index, 25) for index in range(9)]


def test_probe_refuses_webp_and_names_way_out(tmp_path: Path) -> None:
    pictures = [gradient(index) for index in range(3)]
    clip = make_clip(tmp_path / "clip.webp", pictures, codec="libwebp_anim", time_base=Fraction(1, 25))
    with pytest.raises(InvalidInput, match=r"is WebP.*`magick CLIP.webp CLIP.gif`"):
        probe(clip)


def test_probe_refuses_still_apng(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "clip.apng", [gradient(0)], codec="apng", pix_fmt="rgb24", time_base=Fraction(1, 25)
    )
    with pytest.raises(InvalidInput, match="not a video"):
        probe(clip)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (96, 80), (48, 64)])
def test_decoder_scales_frames_to_first_size(tmp_path: Path, width: int, height: int) -> None:
    pictures, _ = decode(resized_midway(tmp_path / "clip.mpg", width, height))
    indices = [*range(9), *range(10)]  # libav's decoder of MPEG-2 loses the last picture before a new size
    for index, picture in zip(indices, pictures, strict=True):
        assert np.abs(picture.astype(int) - gradient(index)).mean() < 16, index


def odd_clip(path: Path, width: int, height: int) -> Path:
    return make_clip(
        path, [gradient(index, width, height) for index in range(3)], codec="ffv1", pix_fmt="bgr0"
    )


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49), (65, 49)])
def test_decoder_pads_odd_size_by_a_copy_of_the_last_pixel(tmp_path: Path, width: int, height: int) -> None:
    clip = odd_clip(tmp_path / "in.mkv", width, height)
    assert probe(clip).width == width
    for index, picture in enumerate(decode(clip)[0]):
        original = gradient(index, width, height)
        assert (picture[:height, :width] == original).all()
        assert (picture[-1, :width] == original[-1]).all()
        assert (picture[:height, -1] == original[:, -1]).all()


def test_decoder_scales_odd_size_if_asked(tmp_path: Path) -> None:
    clip = odd_clip(tmp_path / "in.mkv", 65, 49)
    for index, picture in enumerate(decode(clip, ReadOptions(odd_size="scale"))[0]):
        assert picture.shape == (50, 66, 3)
        assert np.abs(picture.astype(int) - gradient(index, 66, 50)).mean() < 2


@pytest.mark.parametrize("odd_size", ["pad", "scale"])
def test_pipeline_writes_even_size_for_odd_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd_size: OddSize
) -> None:
    clip = odd_clip(tmp_path / "in.mkv", 65, 49)
    options = ReadOptions(odd_size=odd_size)
    request = VideoRequest(
        clip, tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"}, reading=options
    )
    with stub_pipeline(StubVideoModel(), 2, 2) as video:
        result = video.run_clip(request, on_batch=lambda batch: None, canceled=lambda: False)
    assert (result.width, result.height, result.frames) == (66, 50, 3)
    written = read_clip(request.target)
    assert (written.size, len(written.times)) == ((66, 50), 3)


def many_fonts(path: Path, fonts: int) -> Path:
    """Write a clip with this number of attached fonts."""
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(fonts):
            output.add_attachment(f"{index}.ttf", "application/x-truetype-font", b"font")
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(gradient(index))
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_fonts_do_not_count_as_streams(tmp_path: Path) -> None:
    clip = many_fonts(tmp_path / "clip.mkv", 100)
    limits = Limits(max_streams=1)
    assert probe(clip, limits).codec == "h264"
    with closing(ClipDecoder(clip, limits)) as decoder:
        assert len(list(decoder.frames)) == 3


def test_number_of_fonts_has_a_bound(tmp_path: Path) -> None:
    """libav does not even make streams of the fonts beyond it."""
    clip = many_fonts(tmp_path / "clip.mkv", MAX_OTHER_STREAMS + 20)
    with av.open(clip) as container:
        assert len(container.streams) == MAX_OTHER_STREAMS + 21
    limits = Limits(max_streams=4)
    with open_media(clip, CLIPS, limits) as container:
        assert len(container.streams) == MAX_OTHER_STREAMS + 5
