"""The tags that say what the numbers in a picture mean, and what is assumed where a clip does not say it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

__all__ = ["BRIGHTNESS_WEIGHTS", "HD_HEIGHT", "HD_WIDTH", "ColourTags", "Matrix", "assumed_matrix"]

#: From this width or this height on, players take an untagged picture for BT.709, and below for BT.601.
HD_WIDTH, HD_HEIGHT = 1280, 720


class Matrix(IntEnum):
    """The ways to code RGB as brightness and two colour differences: the matrix numbers of ITU-T H.273."""

    RGB = 0
    BT709 = 1
    UNSPECIFIED = 2
    FCC = 4
    BT470BG = 5
    BT601 = 6
    SMPTE240M = 7
    YCGCO = 8
    BT2020_NCL = 9
    BT2020_CL = 10
    SMPTE2085 = 11
    CHROMA_DERIVED_NCL = 12
    CHROMA_DERIVED_CL = 13
    ICTCP = 14
    IPT_C2 = 15
    YCGCO_RE = 16
    YCGCO_RO = 17


#: The weights of red and of blue in the brightness, for the matrices that H.264 allows in 4:2:0, and that
#: libav converts in both directions.
BRIGHTNESS_WEIGHTS = {
    Matrix.BT709: (0.2126, 0.0722), Matrix.FCC: (0.30, 0.11), Matrix.BT470BG: (0.299, 0.114),
    Matrix.BT601: (0.299, 0.114), Matrix.SMPTE240M: (0.212, 0.087), Matrix.BT2020_NCL: (0.2627, 0.0593),
}  # fmt: skip
#: The primaries of television sets (NTSC, PAL) and of BT.709 are close. Their codes are used alike, as most
#: players do.
_STANDARD_PRIMARIES = {
    ColorPrimaries.BT709, ColorPrimaries.UNSPECIFIED, ColorPrimaries.BT470BG, ColorPrimaries.SMPTE170M,
    ColorPrimaries.SMPTE240M, ColorPrimaries.EBU3213,
}  # fmt: skip
#: Transfer functions whose codes no player shows as it shows those of BT.709.
_OTHER_TRANSFERS = {
    ColorTrc.LINEAR, ColorTrc.LOG, ColorTrc.LOG_SQRT, ColorTrc.SMPTE2084, ColorTrc.SMPTE428,
    ColorTrc.ARIB_STD_B67,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ColourTags:
    """The meaning of the numbers in a picture, as numbers of ITU-T H.273, which are also libav's."""

    matrix: int
    primaries: int
    transfer: int

    @classmethod
    def from_frame(cls, frame: VideoFrame) -> Self:
        """Return what the frame states.

        A reserved number counts as not stated. A matrix that is not stated, or cannot be this frame's, is the
        one that players assume.
        """
        assumed = assumed_matrix(frame.width, frame.height)
        matrix = frame.colorspace if frame.colorspace in set(Matrix) else Matrix.UNSPECIFIED
        if frame.format.is_rgb:
            matrix = Matrix.RGB
        elif matrix in (Matrix.RGB, Matrix.UNSPECIFIED):
            matrix = assumed
        return cls(matrix, _known(frame.color_primaries, ColorPrimaries), _known(frame.color_trc, ColorTrc))

    @property
    def is_standard(self) -> bool:
        """Whether RGB codes look the same as in a picture of BT.709. Else they are mapped to BT.709."""
        return self.primaries in _STANDARD_PRIMARIES and self.transfer not in _OTHER_TRANSFERS

    @property
    def scaler_matrix(self) -> int:
        """The number of the matrix in libav's scaler, which has its own number for BT.601."""
        return Matrix.BT470BG if self.matrix == Matrix.BT601 else self.matrix

    def of_result(self, width: int, height: int) -> ColourTags:
        """Return the tags of a result of this size, made of pictures with these tags.

        Primaries and a transfer that the pictures do not state are BT.709's.
        """
        if not self.is_standard:
            return ColourTags(Matrix.BT709, ColorPrimaries.BT709, ColorTrc.BT709)
        return ColourTags(
            self.matrix if self.matrix in BRIGHTNESS_WEIGHTS else assumed_matrix(width, height),
            ColorPrimaries.BT709 if self.primaries == ColorPrimaries.UNSPECIFIED else self.primaries,
            ColorTrc.BT709 if self.transfer == ColorTrc.UNSPECIFIED else self.transfer,
        )


def assumed_matrix(width: int, height: int) -> Matrix:
    """Return the matrix that players assume for an untagged picture of this size."""
    return Matrix.BT709 if width >= HD_WIDTH or height >= HD_HEIGHT else Matrix.BT601


def _known(number: int, numbers: type[ColorPrimaries] | type[ColorTrc]) -> int:
    return number if number in set(numbers) else numbers.UNSPECIFIED
