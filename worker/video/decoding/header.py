"""The header of a clip: the properties that all of its frames share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.tags import ColourTags
from worker.video.decoding.orientation import Orientation
from worker.video.model import Clip, Output

__all__ = ["ClipEnd", "ClipHeader", "frame_rate", "frame_ticks", "tick_length"]


@dataclass(frozen=True, slots=True)
class ClipHeader:
    """Properties that all frames of a clip share.

    `width` and `height` (in pixels, both even) and `aspect` (width / height of one pixel, None if unknown)
    describe the upright picture. `rate` is in frames per second, `time_base` in seconds per tick, `start` in
    ticks.
    `colours` are those of the result, so they say how the encoder converts RGB to YUV. `frames` is the number
    that the container states, or None. It may be wrong, unless the clip is `seekable`: its index then tells
    the number and the times of all frames. `form` is that of the frames' pixels. If they are planes, their
    matrix is that of `colours`. `decoder` is "nvdec" if a GPU decodes them, or else "libav".
    """

    width: int
    height: int
    aspect: Fraction | None
    rate: Fraction
    time_base: Fraction
    start: int
    colours: ColourTags
    frames: int | None
    form: PixelForm = PixelForm.RGB
    seekable: bool = False
    decoder: str = "libav"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of one frame."""
        return self.form.shape(self.width, self.height)

    @property
    def lead(self) -> Fraction:
        """The time in seconds from the first frame to time 0, or 0 if the first frame is later."""
        return max(Fraction(0), -self.start * self.time_base)

    @classmethod
    def from_first_frame(
        cls, stream: VideoStream, first: VideoFrame, orientation: Orientation, form: PixelForm
    ) -> Self:
        """Describe the clip from its stream, its first decoded frame, and how its frames lie and are sent."""
        width, height, aspect = first.width, first.height, stream.sample_aspect_ratio
        if orientation.turns % 2:
            width, height, aspect = height, width, 1 / aspect if aspect else None
        return cls(
            width=width + width % 2,
            height=height + height % 2,
            aspect=aspect,
            rate=frame_rate(stream),
            time_base=tick_length(stream),
            start=first.pts or 0,
            colours=ColourTags.from_frame(first).of_result(width, height),
            frames=stream.frames or None,
            form=form,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the header with these values, of which fractions are strings such as "30000/1001"."""
        aspect, rate, time_base = values["aspect"], Fraction(values["rate"]), Fraction(values["time_base"])
        fractions = {"aspect": aspect and Fraction(aspect), "rate": rate, "time_base": time_base}
        colours, form = ColourTags(**values["colours"]), PixelForm(values["form"])
        return cls(**{**values, **fractions, "colours": colours, "form": form})

    @property
    def clip(self) -> Clip:
        """The clip as a model sees it."""
        return Clip(self.width, self.height, self.rate, self.frames)

    def of_result(self, output: Output) -> Self:
        """Return the header of a model's result. Its ticks are M times as short, for M frames out of N."""
        out, into = output.per
        return replace(
            self,
            width=output.width or self.width,
            height=output.height or self.height,
            rate=self.rate * out / into,
            time_base=self.time_base / out,
            start=self.start * out,
            frames=None,
            seekable=False,
        )


@dataclass(frozen=True, slots=True)
class ClipEnd:
    """The facts about a clip that are known when its last frame was decoded.

    The last frame is no longer displayed at `tick`. `concealed` frames were damaged or lost.
    """

    tick: int
    concealed: int = 0


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the stream's frames per second, or 25 if the stream does not say."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def tick_length(stream: VideoStream) -> Fraction:
    """Return the stream's time base in seconds per tick, or 1/90000 if the stream does not say."""
    return stream.time_base or Fraction(1, 90_000)


def frame_ticks(rate: Fraction, time_base: Fraction) -> int:
    """Return the duration of one frame in ticks, at least 1.

    `rate` is in frames per second, `time_base` in seconds per tick.
    """
    return max(1, round(1 / (rate * time_base)))
