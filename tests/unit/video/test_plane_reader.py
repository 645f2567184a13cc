"""Plain clips are sent as planes, of which the device makes the RGB that a sandbox would send."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame

from tests.support.assets import asset
from tests.support.video.bombs import resized_midway
from tests.support.video.clips import Picture, gradient, make_clip
from tests.support.video.colours import COLOURS, code_ycc, write_planes
from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.plane_reader import PlaneReader, form_of
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.options import ReadOptions
from worker.video.decoding.orientation import Orientation
from worker.video.inference.plane_converter import PlaneConverter

LIMITED, FULL, RGB = PixelForm.PLANES, PixelForm.FULL_PLANES, PixelForm.RGB
AS_PLANES = ReadOptions(planes=True)


def decode(clip: Path) -> tuple[PixelForm, Picture, Picture]:
    """Return the form of the clip's pixels, the RGB of its frames by way of this form, and by libav only."""
    pixels, pictures = [], []
    with closing(ClipDecoder(clip, options=AS_PLANES)) as decoder:
        header = decoder.header
        for frame in decoder.frames:
            pixels.append(decoder.pixels(frame).copy())
            pictures.append(decoder.upright(frame).copy())
    frames = np.stack(pixels)
    assert frames.shape[1:] == header.shape
    rgb = PlaneConverter(header.colours.matrix, header.form).to_rgb(torch.from_numpy(frames))
    return header.form, rgb.numpy(), np.stack(pictures)


@pytest.mark.parametrize(("full", "form"), [(False, LIMITED), (True, FULL)])
@pytest.mark.parametrize("matrix", [1, 2, 5, 6, 7, 9])
def test_plain_clip_has_same_rgb_by_way_of_planes(
    tmp_path: Path, matrix: int, full: bool, form: PixelForm
) -> None:
    coded = code_ycc(COLOURS / 255, 6 if matrix == 2 else matrix)
    clip = write_planes(tmp_path / "in.mkv", coded, "yuv420p", full=full, tags=(matrix, 1, 1))
    found, frames, pictures = decode(clip)
    assert found is form
    assert (frames == pictures).all()


def test_sample_clip_has_same_rgb_by_way_of_planes() -> None:
    form, frames, pictures = decode(asset("carphone_pristine.mp4"))
    assert form is LIMITED
    assert (frames == pictures).all()


def test_clip_of_camera_keeps_its_full_range(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mov", [gradient(i) for i in range(3)], codec="mjpeg", pix_fmt="yuvj420p")
    form, frames, pictures = decode(clip)
    assert form is FULL
    assert (frames == pictures).all()


def test_interlaced_clip_is_sent_as_planes_without_its_lines(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", [gradient(i) for i in range(3)], flags="+ildct+ilme")
    form, frames, pictures = decode(clip)
    assert form is LIMITED
    assert (frames == pictures).all()


@pytest.mark.parametrize(
    "how",
    [
        {"pix_fmt": "yuv444p"},
        {"pix_fmt": "yuv420p10le"},
        {"pix_fmt": "yuva420p"},
        {"tags": (9, 9, 16)},
        {"tags": (8, 1, 1)},
        {"size": (128, 6)},
    ],
    ids=str,
)
def test_other_clips_are_sent_as_rgb(tmp_path: Path, how: dict[str, Any]) -> None:
    how = {"pix_fmt": "yuv420p", "tags": (1, 1, 1), **how}
    form, frames, pictures = decode(write_planes(tmp_path / "in.mkv", code_ycc(COLOURS / 255, 1), **how))
    assert form is RGB
    assert (frames == pictures).all()


@pytest.mark.parametrize(("width", "height"), [(63, 48), (64, 47)])
def test_clip_of_odd_size_is_sent_as_rgb(tmp_path: Path, width: int, height: int) -> None:
    clip = make_clip(tmp_path / "in.mkv", [gradient(i, width, height) for i in range(2)], codec="ffv1")
    form, frames, _ = decode(clip)
    assert form is RGB
    assert frames.shape == (2, 48, 64, 3)


@pytest.mark.parametrize("orientation", [Orientation(mirrored=True), Orientation(turns=1)])
def test_clip_that_must_be_turned_is_sent_as_rgb(
    tmp_path: Path, orientation: Orientation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Orientation, "from_frame", classmethod(lambda cls, frame: orientation))
    form, frames, pictures = decode(make_clip(tmp_path / "in.mp4", [gradient(i) for i in range(2)]))
    assert form is RGB
    assert (frames == pictures).all()


@pytest.mark.parametrize(("width", "height"), [(32, 32), (96, 80)])
def test_frames_of_another_size_become_planes_of_the_first_size(
    tmp_path: Path, width: int, height: int
) -> None:
    form, frames, pictures = decode(resized_midway(tmp_path / "in.mpg", width, height))
    assert form is LIMITED
    assert len(frames) == 19
    assert (frames[:9] == pictures[:9]).all()
    # Their colour differences have been averaged once more.
    assert np.abs(frames[9:].astype(int) - pictures[9:]).mean() < 2


def frame_of(pix_fmt: str = "yuv420p", matrix: int = 1, colour_range: int = 1) -> VideoFrame:
    frame = VideoFrame.from_ndarray(gradient(7), format="rgb24").reformat(
        format=pix_fmt, dst_colorspace=matrix, dst_color_range=colour_range
    )
    frame.colorspace, frame.color_range = matrix, colour_range
    return frame


def test_frames_of_a_hardware_decoder_are_read_like_others() -> None:
    frame = frame_of()
    reader = PlaneReader(frame, form_of(frame))
    expected = frame.to_ndarray()
    for other in (frame, frame.reformat(format="nv12"), frame):
        assert np.array_equal(reader.read(other), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unlike", [frame_of(matrix=5), frame_of(colour_range=2), frame_of("yuv422p"), frame_of("yuvj420p")]
)
def test_frame_with_other_colours_becomes_planes_like_those_of_the_first(unlike: VideoFrame) -> None:
    frame = frame_of()
    reader = PlaneReader(frame, form_of(frame))
    assert reader.read(unlike) is None
    planes = reader.convert(gradient(7))
    assert np.abs(planes.astype(int) - frame.to_ndarray()).max() <= 1
    assert reader.read(frame) is not None


def test_frames_with_two_numbers_of_the_same_matrix_are_alike() -> None:
    first, other = frame_of(matrix=5), frame_of(matrix=5)
    other.colorspace = 6
    assert PlaneReader(first, form_of(first)).read(other) is not None
