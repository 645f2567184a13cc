"""Recordings that are joined one behind the other, of which some have no sound or another kind of sound."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from av.audio.frame import AudioFrame

from tests.support.video.clips import libav_warnings, read_clip, remux
from tests.support.video.copies import copy_clip
from tests.support.video.sounds import BEFORE_S, RATE, SoundTrack, heard, lag_ms, make_sound_clip
from worker.jobs.media.probe.probe import probe
from worker.video.tracks.sound_times import SoundTimes


@pytest.mark.parametrize(
    "parts",
    [
        (SoundTrack("aac"), None, SoundTrack("aac", seed=1)),
        (None, SoundTrack("aac"), None),
        (SoundTrack("aac"), SoundTrack("aac", rate=32_000, layout="mono", seed=1)),
    ],
    ids=["no sound between", "sound in one", "another rate"],
)
def test_sound_of_joined_recordings_stays_in_step(
    tmp_path: Path, parts: tuple[SoundTrack | None, ...]
) -> None:
    files = [
        make_sound_clip(tmp_path / f"{number}.ts", *([track] if track else []))
        for number, track in enumerate(parts)
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(file.read_bytes() for file in files))
    copy_clip(source, tmp_path / "out.mp4")
    times = read_clip(tmp_path / "out.mp4").times
    assert len(times) == 50 * len(parts)
    starts = [float(time - times[0]) for time in times[::50]]
    assert all(2 <= later - start < 2.06 for start, later in pairwise(starts))
    assert times[-1] - times[-50] == pytest.approx(1.96, abs=0.001)
    sound = heard(tmp_path / "out.mp4", seconds=2.1 * len(parts) + 1)
    for start, file, track in zip(starts, files, parts, strict=True):
        begin = round((start + BEFORE_S + 0.1) * RATE)
        here = sound[begin : begin + round(1.6 * RATE)]
        if track is None:
            assert np.abs(here).max() < 0.01
        else:
            there = heard(file)[round((BEFORE_S + 0.1) * RATE) :][: len(here)]
            lag, likeness = lag_ms(here, there)
            assert abs(lag) < 5
            assert likeness > 0.95
    assert libav_warnings(tmp_path / "out.mp4") == []


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_recording_joined_to_one_of_a_later_clock_is_read(tmp_path: Path, suffix: str) -> None:
    """libav takes times before the first one for times after the clock has wrapped, 26.5 hours later."""
    early = make_sound_clip(tmp_path / f"early.{suffix}", SoundTrack("mp2"))
    late = remux(early, tmp_path / f"late.{suffix}", output_ts_offset="300")
    source = tmp_path / f"in.{suffix}"
    source.write_bytes(late.read_bytes() + early.read_bytes())
    assert probe(source).duration_s is None
    copy_clip(source, tmp_path / "out.mp4")
    times = read_clip(tmp_path / "out.mp4").times
    assert len(times) == 100
    assert 2 <= times[50] - times[0] < 2.06
    sound = heard(tmp_path / "out.mp4", seconds=6)[round(float(times[50] - times[0]) * RATE) :]
    here = slice(round((BEFORE_S + 0.1) * RATE), round((BEFORE_S + 1.7) * RATE))
    lag, likeness = lag_ms(sound[here], heard(early)[here])
    assert abs(lag) < 5
    assert likeness > 0.9


def test_sound_times_ignore_times_that_libav_works_out_with_another_rate() -> None:
    """The frames are of 44.1 kHz, of which every tenth states its time. The recording began with 48 kHz."""
    sound_times, found = SoundTimes(48_000), []
    for number in range(30):
        frame = AudioFrame(format="flt", layout="mono", samples=1024)
        frame.sample_rate, frame.time_base = 44_100, Fraction(1, 90_000)
        stated = number // 10 * 10 * Fraction(1024, 44_100) + number % 10 * Fraction(1024, 48_000)
        frame.pts = round(stated / frame.time_base)
        found += [start for start, _ in sound_times.add(frame)]
    assert [number for number, start in enumerate(found) if start is not None] == [0, 10, 20]
