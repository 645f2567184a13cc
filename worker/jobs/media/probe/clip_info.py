"""The properties of an uploaded clip or image that its probe finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

__all__ = ["ClipInfo"]


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """Properties of a clip according to its container; None if unknown.

    `width` and `height` are in pixels, as stored, and `rate` is in frames per second. Of an image only the
    size is known.
    """

    width: int | None = None
    height: int | None = None
    frames: int | None = None
    rate: Fraction | None = None
    duration_s: float | None = None
    has_audio: bool = False
    codec: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the properties as JSON values."""
        return asdict(self) | {"rate": self.rate and str(self.rate)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the properties that `to_json` has returned."""
        rate = values["rate"]
        return cls(**{**values, "rate": rate and Fraction(rate)})
