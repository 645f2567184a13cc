"""Colours: the RGB that a clip's pictures become is that of the standards, whatever they are coded in."""

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.colours import (
    COLOURS,
    PATCH,
    Values,
    code_pq,
    code_ycc,
    constant_luminance,
    read_colour,
    write_planes,
    ycgco,
)
from tests.support.video.pipeline import stub_pipeline
from worker.jobs.errors import BadVideo
from worker.video.decoding.decoder import ClipDecoder
from worker.video.request import VideoRequest

RGB = COLOURS / 255
#: How far a colour may differ from that of the source, in 8-bit codes: twice the rounding of YUV.
TOLERANCE = 4


def decode(path: Path) -> tuple[NDArray[np.int64], tuple[int, int, int]]:
    """Return the colours of the patches (8,3) of the last picture, and the tags of the result."""
    with closing(ClipDecoder(path)) as decoder:
        for frame in decoder.frames:
            picture = decoder.upright(frame).astype(int)
        tags = decoder.header.colours
    places = np.arange(8) * PATCH + PATCH // 2
    return picture[PATCH // 2, places], (tags.matrix, tags.primaries, tags.transfer)


def assert_same(colours: NDArray[np.int64], expected: Values, tolerance: float = TOLERANCE) -> None:
    assert np.abs(colours - expected).max() <= tolerance, f"\n{colours}\n{expected.round(1)}"


def assert_looks_same(colours: NDArray[np.int64], expected: Values) -> None:
    """Compare colours, and take all codes up to 24 for black: they show 0.3% of white's light."""
    assert_same(colours.clip(24), expected.clip(24))


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuva420p"]
)
def test_decoder_converts_every_matrix(tmp_path: Path, pix_fmt: str, matrix: int, full: bool) -> None:
    clip = write_planes(tmp_path / "in.mkv", code_ycc(RGB, matrix), pix_fmt, full=full, tags=(matrix, 1, 1))
    colours, tags = decode(clip)
    assert_same(colours, COLOURS)
    assert tags == (matrix, 1, 1)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv422p10le", "yuv444p12le"])
@pytest.mark.parametrize(
    ("coded", "tags"),
    [
        (ycgco(RGB), (8, 1, 1)),
        (constant_luminance(RGB), (10, 1, 14)),
        (code_ycc(RGB, 1), (12, 1, 1)),  # "chroma-derived" is BT.709's matrix for BT.709's primaries
    ],
    ids=["ycgco", "bt2020c", "chroma-derived"],
)
def test_decoder_converts_matrix_that_libav_does_not_know(
    tmp_path: Path, pix_fmt: str, full: bool, coded: Values, tags: tuple[int, int, int]
) -> None:
    colours, result = decode(write_planes(tmp_path / "in.mkv", coded, pix_fmt, full=full, tags=tags))
    assert_same(colours, COLOURS, 6)
    assert result == (6, *tags[1:]), "H.264 and its players know BT.601"


def test_decoder_converts_chroma_derived_constant_luminance(tmp_path: Path) -> None:
    """With BT.2020's primaries it is BT.2020's. These primaries are then mapped to BT.709's."""
    tags, plain = (13, 9, 14), (10, 9, 14)
    one, other = (
        decode(write_planes(tmp_path / f"{t[0]}.mkv", constant_luminance(RGB), tags=t))[0]
        for t in (tags, plain)
    )
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize(
    ("size", "matrix"), [((128, 16), 6), ((1280, 16), 1), ((128, 720), 1), ((1278, 718), 6)]
)
@pytest.mark.parametrize("stated", [2, 0, 3, 200], ids=["unspecified", "rgb", "reserved", "unknown"])
def test_decoder_takes_untagged_clip_as_players_do(
    tmp_path: Path, size: tuple[int, int], matrix: int, stated: int
) -> None:
    clip = write_planes(tmp_path / "in.mkv", code_ycc(RGB, matrix), size=size, tags=(stated, 2, 2), frames=1)
    colours, tags = decode(clip)
    assert_same(colours, COLOURS)
    assert tags == (matrix, 1, 1)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("ffv1", "bgr0"),
        ("ffv1", "bgra"),
        ("ffv1", "gbrp10le"),
        ("qtrle", "argb"),
        ("libx264rgb", "rgb24"),
        ("png", "rgba"),
        ("png", "rgb48be"),
    ],
)
def test_decoder_gives_rgb_a_matrix_that_h264_allows(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    clip = write_rgb(tmp_path / ("in.mkv" if codec == "ffv1" else "in.mov"), pix_fmt, codec)
    colours, tags = decode(clip)
    assert_same(colours, COLOURS, 1)
    assert tags == (6, 1, 1)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("ffv1", "gray"), ("ffv1", "gray10le"), ("ffv1", "ya8"), ("gif", "pal8")]
)
def test_decoder_reads_pictures_without_yuv(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    clip = write_rgb(tmp_path / ("in.gif" if codec == "gif" else "in.mkv"), pix_fmt, codec)
    expected = COLOURS if codec == "gif" else np.repeat(code_ycc(COLOURS * 1.0, 5)[:, :1], 3, axis=1)
    assert_same(decode(clip)[0], expected)


def write_rgb(path: Path, pix_fmt: str, codec: str = "ffv1") -> Path:
    picture = np.repeat(np.repeat(COLOURS[None].astype(np.uint8), PATCH, axis=0), PATCH, axis=1)
    with av.open(path, "w") as output:
        stream = output.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], pix_fmt
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pix_fmt == "pal8":
                frame = quantized(frame)
            frame.pts = index
            output.mux(stream.encode(frame.reformat(format=pix_fmt)))
        output.mux(stream.encode(None))
    return path


def quantized(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the frame as pal8 with its own palette."""
    pixels = frame.to_ndarray(format="rgb24").reshape(-1, 3)
    palette, numbers = np.unique(pixels, axis=0, return_inverse=True)
    colours = np.zeros((256, 4), np.uint8)
    colours[: len(palette), 1:] = palette
    colours[:, 0] = 255
    indices = numbers.reshape(frame.height, frame.width).astype(np.uint8)
    return av.VideoFrame.from_ndarray((indices, colours), format="pal8")  # type: ignore[arg-type]  # PyAV's stub


BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p10le"])
def test_decoder_maps_pq_to_sdr(tmp_path: Path, pix_fmt: str) -> None:
    """Light that white paper can reflect stays what it is: SDR white is 203 nits (ITU-R BT.2408)."""
    light = RGB**2.4 * 90
    coded = code_ycc(code_pq(light @ BT709_TO_BT2020.T), 9)
    colours, tags = decode(write_planes(tmp_path / "in.mkv", coded, pix_fmt, tags=(9, 9, 16)))
    assert_looks_same(colours, 255 * (light / 203) ** (1 / 2.4))
    assert tags == (1, 1, 1)


def test_decoder_rolls_off_highlights_of_pq(tmp_path: Path) -> None:
    """The values are those of ITU-R BT.2390's EETF from a peak of 1000 nits to one of 203."""
    nits = np.array([0, 1, 10, 50, 100, 203, 600, 1000])
    expected = np.array([0, 27.9, 72.7, 142.2, 189.3, 230.3, 254.1, 255])
    coded = code_ycc(np.repeat(code_pq(nits)[:, None], 3, axis=1), 9)
    colours, _ = decode(write_planes(tmp_path / "in.mkv", coded, "yuv444p10le", tags=(9, 9, 16)))
    assert_same(colours, np.repeat(expected[:, None], 3, axis=1), 3)


def test_decoder_maps_hlg_to_sdr(tmp_path: Path) -> None:
    """HLG's reference white is the code 0.75 (203 nits), and 0.5 shows 50.7 nits on the reference display."""
    codes = np.array([0, 0.25, 0.5, 0.6, 0.75, 0.9, 1, 1])
    coded = code_ycc(np.repeat(codes[:, None], 3, axis=1), 9)
    colours, tags = decode(write_planes(tmp_path / "in.mkv", coded, "yuv444p10le", tags=(9, 9, 18)))
    expected = np.array(
        [0, 255 * (9.6 / 203) ** (1 / 2.4), 255 * (50.7 / 203) ** (1 / 2.4), 178, 230.3, 254, 255, 255]
    )
    assert_same(colours, np.repeat(expected[:, None], 3, axis=1), 4)
    assert (np.diff(colours[:7, 0]) > 0).all()
    assert tags == (1, 1, 1)


@pytest.mark.parametrize(
    ("primaries", "to_wide"),
    [
        (9, BT709_TO_BT2020),
        (12, np.array([[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]])),
    ],
    ids=["bt2020", "display-p3"],
)
def test_decoder_maps_wide_gamut_to_bt709(tmp_path: Path, primaries: int, to_wide: Values) -> None:
    coded = code_ycc((RGB**2.4 @ to_wide.T).clip(0, 1) ** (1 / 2.4), 1)
    colours, tags = decode(write_planes(tmp_path / "in.mkv", coded, "yuv444p10le", tags=(1, primaries, 1)))
    assert_looks_same(colours, COLOURS)
    assert tags == (1, 1, 1)


@pytest.mark.parametrize("matrix", [11, 14, 15, 16, 17])
def test_decoder_refuses_other_colours_and_names_way_out(tmp_path: Path, matrix: int) -> None:
    clip = write_planes(tmp_path / "in.mkv", code_ycc(RGB, 1), "yuv444p10le", tags=(matrix, 9, 16))
    with pytest.raises(BadVideo, match=r"not read here.*ffmpeg -i CLIP"):
        decode(clip)


@pytest.mark.parametrize(
    ("tags", "size", "expected"),
    [
        ((9, 9, 16), None, (1, 1, 1)),
        ((9, 9, 18), None, (1, 1, 1)),
        ((9, 9, 14), None, (1, 1, 1)),
        ((1, 12, 1), None, (1, 1, 1)),
        ((8, 2, 2), None, (6, 1, 1)),
        ((10, 2, 2), None, (6, 1, 1)),
        ((7, 7, 7), None, (7, 7, 7)),
        ((5, 5, 6), None, (5, 5, 6)),
        ((2, 2, 2), None, (6, 1, 1)),
        ((2, 2, 2), (1280, 64), (1, 1, 1)),
    ],
)
def test_pipeline_background_has_its_colour_in_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tags: tuple[int, int, int],
    size: tuple[int, int] | None,
    expected: tuple[int, int, int],
) -> None:
    """The clip is black, which the stub model takes for background."""
    black = np.zeros((8, 3))
    clip = write_planes(tmp_path / "in.mkv", black, "yuv420p10le", tags=tags, size=size or (64, 64))
    request = VideoRequest(clip, tmp_path / "out.mp4", tmp_path / "work", {"background": "#00b140"})
    with stub_pipeline(StubVideoModel(), 4, 4) as video:
        video.run_clip(request, on_batch=lambda batch: None, canceled=lambda: False)
    colour, result = read_colour(request.target)
    assert np.abs(colour - (0, 0xB1, 0x40)).max() < 3
    assert result == expected
