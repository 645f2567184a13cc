"""The audit must tell one frame from the next, and forgive what x264 does differently each time."""

from pathlib import Path

from tests.faults.audit import pictures, same
from tests.faults.plans import numbered
from tests.support.clips import make_clip


def test_a_frame_that_is_missing_or_in_anothers_place_is_seen(tmp_path: Path) -> None:
    good = pictures(make_clip(tmp_path / "good.mp4", [numbered(i) for i in range(12)]))
    assert same(
        pictures(make_clip(tmp_path / "b.mp4", [numbered(i) for i in range(12)], codec="mpeg4")), good
    )
    assert not same(good[:-1], good)
    assert not same(pictures(make_clip(tmp_path / "c.mp4", [numbered(i) for i in range(1, 13)])), good)
    swapped = [numbered(i) for i in (0, 1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11)]
    assert not same(pictures(make_clip(tmp_path / "d.mp4", swapped)), good)
