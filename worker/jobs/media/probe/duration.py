"""The duration of a clip before it is decoded."""

from __future__ import annotations

from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

__all__ = ["MPEG_CLOCK_S", "MPEG_FORMATS", "stated_duration_s"]

#: The formats with MPEG's clock, which begins again after this number of seconds, of 90,000 ticks each.
MPEG_FORMATS = frozenset({"mpegts", "mpeg"})
MPEG_CLOCK_S = Fraction(2**33, 90_000)


def stated_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the duration that the file states or libav estimates.

    The estimate of MPEG is the difference of the last and the first time. If a recording that was joined ends
    at an earlier time than it begins, libav adds a whole turn of the clock. Such an estimate is left out.
    """
    if stream.duration is not None and stream.time_base:
        duration = stream.duration * stream.time_base
    elif container.duration is not None:
        duration = Fraction(container.duration, 1_000_000)
    else:
        return None
    is_wrapped = container.format.name in MPEG_FORMATS and duration > MPEG_CLOCK_S / 2
    return None if is_wrapped else float(duration)
