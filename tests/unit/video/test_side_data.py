"""Side data of frames that PyAV has no name for: it is skipped, and the clip is read."""

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from tests.support.video.clips import gradient, save_png
from tests.support.video.exif import camera_clip, oriented_jpeg, stored
from worker.video.colour.side_data import side_data
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.image import decode_image


@pytest.fixture(autouse=True)
def _pyav_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Type, "_missing_", classmethod(lambda cls, number: None))


def test_decoder_reads_clip_with_side_data_that_pyav_cannot_name(tmp_path: Path) -> None:
    clip = camera_clip(tmp_path / "in.avi", [gradient(i) for i in range(5)])
    with av.open(clip) as container, pytest.raises(ValueError, match="is not a valid Type"):
        _ = next(container.decode(video=0)).side_data
    with closing(ClipDecoder(clip)) as decoder:
        pictures = [decoder.upright(frame).astype(int) for frame in decoder.frames]
    assert len(pictures) == 5
    for index, picture in enumerate(pictures):
        assert np.abs(picture - gradient(index)).mean() < 4


def test_side_data_finds_named_kind_among_unnamed_ones(tmp_path: Path) -> None:
    clip = camera_clip(tmp_path / "in.avi", [gradient(0)] * 2)
    with av.open(clip) as container:
        frame = next(container.decode(video=0))
    assert side_data(frame, "CONTENT_LIGHT_LEVEL") is None
    matrix = side_data(frame, "DISPLAYMATRIX")
    assert matrix is not None
    assert len(matrix) == 36


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_image_turns_photo_upright(tmp_path: Path, orientation: int) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(oriented_jpeg(stored(gradient(9), orientation), orientation))
    picture = decode_image(photo)
    assert picture.shape == (48, 64, 3)
    assert np.abs(picture.astype(int) - gradient(9)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decoder_turns_frames_of_camera_upright(tmp_path: Path, orientation: int) -> None:
    clip = camera_clip(tmp_path / "in.avi", [stored(gradient(9), orientation)] * 2, orientation)
    with closing(ClipDecoder(clip)) as decoder:
        pictures = [decoder.upright(frame).astype(int) for frame in decoder.frames]
        assert (decoder.header.width, decoder.header.height) == (64, 48)
    assert all(np.abs(picture - gradient(9)).mean() < 4 for picture in pictures)


def test_decode_image_leaves_picture_without_exif(tmp_path: Path) -> None:
    assert (decode_image(save_png(tmp_path / "image.png", gradient(3))) == gradient(3)).all()
