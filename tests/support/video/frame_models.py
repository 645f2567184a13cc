"""Frame models of several forms, as an author would write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor

from worker.video.model import Clip, FrameModel, Options, Output, Pass, Picture


class Plain(FrameModel):
    """A model without weights, whose pass is the model itself."""

    Options = Options

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        return cls()

    def output(self, clip: Clip, options: Any) -> Output:
        return Output()

    def start(self, clip: Clip, options: Any) -> Pass:
        return self  # type: ignore[return-value]  # subclasses are callable


class Identity(Plain):
    """Returns its very input."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames


class Double(Plain):
    """Doubles width and height."""

    def output(self, clip: Clip, options: Any) -> Output:
        return Output(width=2 * clip.width, height=2 * clip.height)

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames.repeat_interleave(2, 1).repeat_interleave(2, 2)


class Neighbours(Plain):
    """Averages each frame with one in front of it and two behind it."""

    before, after = 1, 2

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        size = len(frames) - 3
        around = torch.stack([frames[offset : offset + size].float() for offset in range(4)])
        return around.mean(0).to(torch.uint8)


class Interpolation(Plain):
    """Makes three frames of every two: the frames at 0, 2/3 and 4/3 of their distance."""

    after = 1

    def output(self, clip: Clip, options: Any) -> Output:
        return Output(per=(3, 2))

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        size = (len(frames) - 1) * 3
        places = [divmod(2 * number, 3) for number in range(-(-size // 2))]
        mixed = [torch.lerp(frames[at].float(), frames[at + 1].float(), part / 3) for at, part in places]
        return torch.stack(mixed).to(torch.uint8)


class EveryThird(Plain):
    """Keeps every third frame."""

    def output(self, clip: Clip, options: Any) -> Output:
        return Output(per=(1, 3))

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames[::3].clone()


class TrailOptions(Options):
    """The options of `Trail`."""

    keep: float = Field(0.5, ge=0, le=1, description="The share of the frames before.")
    stamp: Picture | None = None


class Trail(Plain):
    """Averages each frame with all frames before it."""

    Options = TrailOptions

    def start(self, clip: Clip, options: TrailOptions) -> Pass:
        return TrailPass(options.keep)


class TrailPass:
    """A pass with state."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self.last: Tensor | None = None

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        results = frames.clone()
        for index in range(valid):
            frame = frames[index].float()
            self.last = frame if self.last is None else torch.lerp(frame, self.last, self.keep)
            results[index] = self.last.to(torch.uint8)
        return results

    def state(self) -> Mapping[str, Tensor]:
        return {} if self.last is None else {"last": self.last}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.last = state.get("last")


class SequentialTrail(Trail):
    """The same, without the state."""

    sequential = True

    def start(self, clip: Clip, options: TrailOptions) -> Pass:
        return TrailPass(options.keep).__call__


class Brightness(Plain):
    """Says how bright each frame is."""

    def output(self, clip: Clip, options: Any) -> Output:
        return Output("records")

    def __call__(self, frames: Tensor, valid: int) -> Sequence[Mapping[str, Any]]:
        return [{"mean": round(float(frame.float().mean()), 3)} for frame in frames[:valid]]
