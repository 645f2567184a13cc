"""Decides which of the times that sound states are right."""

from __future__ import annotations

from fractions import Fraction

from av.audio.frame import AudioFrame

from worker.video.tracks.sound_decoder import start_of
from worker.video.tracks.timeline import SLACK_S

__all__ = ["SoundTimes", "TimedFrame"]

#: A frame, and its start in seconds; None if it follows its predecessor at once.
TimedFrame = tuple[Fraction | None, AudioFrame]
#: Seconds of sound after a jump of its times that are held back, to see whether the times jump back again.
HOLD_S = Fraction(1, 2)
#: Seconds by which a time that libav has worked out may differ from the exact one.
ROUNDING_S = Fraction(1, 5000)


class SoundTimes:
    """A filter for frames of sound that takes the time from those for which a wrong one is stated.

    - If times jump, and soon go on as if they had not jumped, then the ones in between are wrong.
    - A transport stream states the time of every few frames. libav works out the others with the sample rate
      of the stream's beginning, which is `rate`. They are wrong if the sample rate has changed.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._next: Fraction | None = None
        self._worked_out: Fraction | None = None
        self._held: list[TimedFrame] = []
        self._held_s = Fraction(0)

    def add(self, frame: AudioFrame) -> list[TimedFrame]:
        """Return the frames whose times are clear after this one, with their times."""
        start, length = self._stated(frame), Fraction(frame.samples, frame.sample_rate)
        if start is None or self._next is None or abs(start - self._next) < SLACK_S:
            self._next = (start or self._next or Fraction(0)) + length
            return [*((None, held) for _, held in self._pop()), (start, frame)]
        self._next += length
        self._held.append((start, frame))
        self._held_s += length
        if self._held_s < HOLD_S:
            return []
        self._next = start + length
        return self._pop()

    def finish(self) -> list[TimedFrame]:
        """Return the frames that are still held back."""
        return self._pop()

    def _stated(self, frame: AudioFrame) -> Fraction | None:
        start, expected = start_of(frame), self._worked_out
        self._worked_out = None if start is None else start + Fraction(frame.samples, self._rate)
        if start is None or expected is None or frame.sample_rate == self._rate:
            return start
        return None if abs(start - expected) < ROUNDING_S else start

    def _pop(self) -> list[TimedFrame]:
        held, self._held, self._held_s = self._held, [], Fraction(0)
        return held
