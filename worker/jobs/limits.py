"""How much one clip may ask of whoever decodes it."""

from dataclasses import dataclass

__all__ = ["DEFAULTS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a clip may have at most: pixels a frame, frames, seconds, and streams of all kinds together."""

    max_pixels: int = 3840 * 2160
    max_frames: int = 100_000
    max_duration_s: float = 3600.0
    max_streams: int = 16


DEFAULTS = Limits()
