"""Decoding times of a result's frames."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.video.clips import libav_warnings
from tests.support.video.copies import copy_clip
from tests.support.video.sounds import SoundTrack, heard, lag_ms, make_sound_clip
from worker.video.encoding.decoding_times import decoding_times


@pytest.mark.parametrize(
    ("coded", "end"),
    [
        ([0], 1),
        ([0, 512], 600),
        ([0, 4, 2, 1, 3, 8, 6, 5, 7, 9], 10),
        ([0, 40, 20, 10, 30, 80, 60, 50, 70, 90], 5000),
        ([0, 2000, 1000, 20, 1500, 2003, 2002, 2001], 2004),
        ([0, 3, 1, 2], 1000),
        ([0, 1, 2, 1003, 1001, 1002], 1004),
        ([0, 400, 200, 100, 300, 410, 420, 430], 440),
    ],
)
def test_decoding_times_rise_precede_display_and_add_up(coded: list[int], end: int) -> None:
    times, last = decoding_times(coded, end)
    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(time <= pts for time, pts in zip(times, coded, strict=True))
    assert times[-1] - times[0] + last == end
    assert last > 0
    assert coded[-1] + last == end or (coded[-1] < max(coded) and coded[-1] + last < end)
    early = [pts - time for time, pts in zip(times, coded, strict=True) if time <= 0]
    assert early[0] == min(early)


def test_decoding_times_of_constant_rate_are_evenly_spaced() -> None:
    assert decoding_times([0, 40, 20, 10, 30, 80, 60, 50, 70], 90) == (
        [-20, -10, 0, 10, 20, 30, 40, 50, 60],
        10,
    )


def test_pictures_with_pauses_that_begin_after_sound_stay_in_step(tmp_path: Path) -> None:
    times = [*range(0, 400, 40), *range(1400, 2000, 40)]
    source = make_sound_clip(tmp_path / "in.mkv", SoundTrack("aac", start_s=-0.3), times_ms=times)
    copy_clip(source, tmp_path / "out.mp4")
    lag, likeness = lag_ms(heard(tmp_path / "out.mp4"), heard(source))
    assert abs(lag) <= 1
    assert likeness > 0.99
    assert libav_warnings(tmp_path / "out.mp4") == []
