"""Places decoded sound on a line of time without gaps and overlaps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["SLACK_S", "Samples", "Timeline"]

#: Decoded sound, as (samples, channels) float32.
Samples = NDArray[np.float32]

#: Seconds by which the stated time of sound may differ from the end of the sound before it. Such differences
#: are rounding errors of the container. A lost packet leaves a longer gap.
SLACK_S = Fraction(1, 100)
#: Seconds by which the times of sound may jump back within one recording. After a longer jump, the sound just
#: continues.
MAX_OVERLAP_S = 10


class Timeline:
    """The line of time of one track, with `rate` samples a second.

    `start` is the time in seconds at which the sound begins, or None if there is none yet.
    `position` is the sample at which the sound so far ends, counted from time 0. `silence` is the number of
    samples that were inserted.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._slack = round(SLACK_S * rate)
        self.start: Fraction | None = None
        self.position = 0
        self.silence = 0

    def place(self, start: Fraction | None, sound: Samples) -> Iterator[Samples]:
        """Yield what follows at `position`: silence up to `start` (in seconds), and `sound`.

        If the sound begins before `position`, its beginning is left out. Without a `start`, and within the
        slack, it follows at once.
        """
        gap = 0 if start is None else round(start * self._rate) - self.position
        if self.start is None:
            self.position, gap = self.position + gap, 0
            self.start = Fraction(self.position, self._rate)
        if abs(gap) < self._slack or gap < -MAX_OVERLAP_S * self._rate:
            gap = 0
        self.silence += max(0, gap)
        while gap > 0:
            length = min(gap, self._rate)
            yield self._advance(np.zeros((length, sound.shape[1]), np.float32))
            gap -= length
        if gap > -len(sound):
            yield self._advance(sound[-gap:])

    def _advance(self, sound: Samples) -> Samples:
        self.position += len(sound)
        return sound
