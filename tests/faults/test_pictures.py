"""Tests of the comparison of pictures, which must ignore the noise of the encoder."""

from pathlib import Path

from tests.support.video.clips import make_clip
from tests.support.video.pictures import numbered_picture, read_pictures, same_pictures


def test_same_pictures_finds_missing_and_swapped_frames(tmp_path: Path) -> None:
    good = read_pictures(make_clip(tmp_path / "good.mp4", [numbered_picture(i) for i in range(12)]))
    assert same_pictures(
        read_pictures(make_clip(tmp_path / "b.mp4", [numbered_picture(i) for i in range(12)], codec="mpeg4")),
        good,
    )
    assert not same_pictures(good[:-1], good)
    assert not same_pictures(
        read_pictures(make_clip(tmp_path / "c.mp4", [numbered_picture(i) for i in range(1, 13)])), good
    )
    swapped = [numbered_picture(i) for i in (0, 1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11)]
    assert not same_pictures(read_pictures(make_clip(tmp_path / "d.mp4", swapped)), good)
