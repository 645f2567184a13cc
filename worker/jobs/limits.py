"""Sizes of clips, and the most that one clip may ask of its decoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

__all__ = ["DEFAULTS", "ClipSize", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a clip may have: pixels in a frame, frames, seconds, and streams (not counting fonts)."""

    max_pixels: int = 3840 * 2160
    max_frames: int = 100_000
    max_duration_s: float = 3600.0
    max_streams: int = 16


DEFAULTS = Limits()


class ClipSize(NamedTuple):
    """The size of a clip's frames, in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the size that text such as `1280x720` gives. Raises ValueError."""
        if not (found := re.fullmatch(r"\s*([1-9]\d{0,4})x([1-9]\d{0,4})\s*", text)):
            raise ValueError(f"{text!r} is not a size such as 1280x720")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"
