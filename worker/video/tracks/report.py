"""The report on each stream of sound and subtitles of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal, Self

__all__ = ["Action", "TrackReport", "TracksReport"]

Action = Literal["copied", "encoded", "left_out"]


@dataclass(frozen=True, slots=True)
class TrackReport:
    """The report on the stream with this index in the clip.

    `codec` is libav's name of the stream's codec. `reason` says why a stream was not copied. `silence_s` is
    the silence, in seconds, that took the place of lost sound.
    """

    stream: int
    codec: str
    action: Action
    reason: str | None = None
    silence_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TracksReport:
    """The reports of all streams of sound and of subtitles.

    `start` is the time in seconds at which the first sound is heard, or None if there is none.
    """

    audio: tuple[TrackReport, ...] = ()
    subtitles: tuple[TrackReport, ...] = ()
    start: Fraction | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the report with these values, of which the start is a string such as "1/25"."""
        audio, subtitles = (
            tuple(TrackReport(**report) for report in values[kind]) for kind in ("audio", "subtitles")
        )
        return cls(audio, subtitles, values["start"] and Fraction(values["start"]))

    def to_json(self) -> dict[str, Any]:
        """Return what a job's result says about the streams."""
        return {kind: [asdict(report) for report in getattr(self, kind)] for kind in ("audio", "subtitles")}
