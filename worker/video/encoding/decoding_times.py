"""The decoding times (dts) of a result's frames, which MP4 stores beside their display times (pts)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["decoding_times"]


def decoding_times(coded: Sequence[int], end: int) -> tuple[list[int], int]:
    """Return a decoding time for each frame, and the duration of the last one in decoding order, in ticks.

    `coded` holds the display times of all frames in decoding order. The first one is 0 and is the earliest,
    and all differ. `end` is the time at which the last frame displayed ends.

    - H.264 requires that decoding times rise, and that no frame is displayed before it is decoded. The n-th
      frame is decoded when the frame `depth` places before the n-th one displayed is. `depth` is the largest
      number of places by which a frame is decoded too late for its place.
    - An MP4 file states the differences of decoding times, and the duration of the last frame. Their sum is
      `end`. If that frame is also the last one displayed, this duration is the time for which it is shown.
    - If the pictures begin later than the sound, libav's muxer reads the delay from those frames that have
      no decoding time above 0. Among them the first one must have the smallest difference of both times.
    """
    shown = sorted(coded)
    places = {time: place for place, time in enumerate(shown)}
    depth = max(number - places[time] for number, time in enumerate(coded))
    last = shown[len(shown) - 1 - depth]
    lead = coded[-1] - last
    if coded[-1] < shown[-1]:
        lead = min(max(shown[depth], lead), end - 1 - last)
    step = max(1, min(lead // depth, shown[1])) if depth else 0
    times = [number * step - lead for number in range(depth)] + shown[: len(shown) - depth]
    return times, end - last - lead
