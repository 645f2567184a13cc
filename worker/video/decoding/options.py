"""The choices about the reading of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["READ_DEFAULTS", "OddSize", "ReadOptions"]

#: What is done with an odd width or height, which H.264 cannot have in 4:2:0.
OddSize = Literal["pad", "scale"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the frames of a clip are read.

    - `deinterlace`: whether frames that are marked as interlaced become progressive ones.
    - `odd_size`: whether an odd side gets one more pixel, a copy of the last one (`pad`), or the picture is
      scaled to the next even size (`scale`).
    - `planes`: whether frames that are stored as planes of 8-bit 4:2:0 are sent as such, and not as RGB. The
      client has no choice about this.
    """

    deinterlace: bool = True
    odd_size: OddSize = "pad"
    planes: bool = False


READ_DEFAULTS = ReadOptions()
