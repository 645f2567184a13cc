"""MediaPipe's selfie segmentation in torch, with the weights of MediaPipe's tflite file.

Source: https://ai.google.dev/edge/mediapipe (general model, 256x256; npm `@mediapipe/selfie_segmentation`).
Licence of the model and its weights: Apache-2.0. `net` holds the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from pydantic import Field
from torch import Tensor

from worker.jobs.errors import ModelMissing
from worker.video.model import Clip, Colour, Options, Output, Picture
from worker.video.models.selfie_segmentation.composite import Background, Compositor, Effect, compositor
from worker.video.models.selfie_segmentation.net import SIDE, SelfieNet
from worker.video.models.tflite_weights import read_weights

__all__ = ["MattingOptions", "SelfieSegmentation"]


class MattingOptions(Options):
    """The options of a model that finds people and replaces what is behind them."""

    effect: Effect = Field("background", description="What is shown instead of the surroundings.")
    background: Colour | Picture = Field("#00b140", description="A colour, or an image.")
    smooth: float = Field(
        0.0, ge=0, le=1, description="The share of the frames before in a frame's matte. It steadies edges."
    )


class SelfieSegmentation:
    """A `FrameModel` that finds people, in frames of any size, and composites them.

    It computes in full float32. Its edges are so steep that rounding the input of any one convolution to 10
    bits, as half precision and TF32 do, moves the alpha at an edge by up to 0.08.
    """

    Options = MattingOptions
    before = after = 0
    sequential = False

    def __init__(self, net: SelfieNet, device: torch.device) -> None:
        self._net = net
        self._device = device

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        """Read the weights from the tflite file and move the net to the device.

        On a GPU this disables TF32 for all convolutions of the process. Raises `ModelMissing` if the weights
        are not this model's.
        """
        if weights is None:
            raise ModelMissing("selfie_segmentation needs its weights: run `stoker models`")
        net = SelfieNet()
        net.load_state_dict(read_weights(weights, net.state_dict()))
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
        net.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        return cls(net, device)

    def compile(self) -> None:
        """Compile the net for its one input size, 256x256. On a GPU torch also records a CUDA graph."""
        self._net.compile(dynamic=False, mode="reduce-overhead")

    def output(self, clip: Clip, options: MattingOptions) -> Output:
        """Return the form of the results: frames of the clip's size."""
        return Output()

    def start(self, clip: Clip, options: MattingOptions) -> MattingPass:
        """Prepare the background, and begin one job."""
        compose = compositor(options.effect, _background(options), clip.height, clip.width, self._device)
        if options.smooth:
            return SmoothMattingPass(self, compose, options.smooth)
        return MattingPass(self, compose)

    @torch.inference_mode()
    def alpha(self, frames: Tensor) -> Tensor:
        """Return alpha (B,1,H,W) float in 0..1 for `frames` (B,H,W,3) uint8 RGB.

        Each frame's result is independent of the others, so padding needs no special treatment.
        """
        # The permuted tensor is channels-last in memory, as is the net: 1.5 times as fast on a CPU.
        squares = _squares(frames).permute(0, 3, 1, 2) / 255
        return F.interpolate(self._net(squares), frames.shape[1:3], mode="bilinear")


class MattingPass:
    """One job: each frame is composited by its own matte."""

    def __init__(self, model: SelfieSegmentation, compose: Compositor) -> None:
        self._model = model
        self._compose = compose

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return the composited `frames` (B,H,W,3) uint8 RGB."""
        return self._compose(frames, self._matte(self._model.alpha(frames), valid))

    def _matte(self, alpha: Tensor, valid: int) -> Tensor:
        return alpha


class SmoothMattingPass(MattingPass):
    """One job whose mattes are averaged exponentially over time: m(t) = s · m(t-1) + (1-s) · alpha(t)."""

    def __init__(self, model: SelfieSegmentation, compose: Compositor, smooth: float) -> None:
        super().__init__(model, compose)
        self._smooth = smooth
        self._last: Tensor | None = None

    def state(self) -> Mapping[str, Tensor]:
        """Return the matte (1,H,W) of the last frame."""
        return {} if self._last is None else {"matte": self._last}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue after the frame of this matte."""
        self._last = state.get("matte")

    def _matte(self, alpha: Tensor, valid: int) -> Tensor:
        last = None if self._last is None else self._last.to(alpha.device)
        for index in range(valid):
            last = alpha[index] if last is None else torch.lerp(alpha[index], last, self._smooth)
            alpha[index] = last
        self._last = None if last is None else last.clone()
        return alpha


def _background(options: MattingOptions) -> Background:
    if not isinstance(options.background, str):
        return options.background
    red, green, blue = bytes.fromhex(options.background[1:])
    return red, green, blue


def _squares(frames: Tensor) -> Tensor:
    """Resize `frames` (B,H,W,3) uint8 to (B,256,256,3) float with integer values in 0..255.

    The result equals that of MediaPipe's CPU path bit for bit. MediaPipe calls OpenCV's warpPerspective,
    which samples source position i · size/256 for output pixel i. So it is bilinear between the corners of
    pixels, not their centres; it is black beyond the last row and column; and it rounds to integers. An
    error of half a pixel here moves the alpha at the edges of a small clip by up to 0.5.
    """
    top, bottom, above, below = _taps(frames.shape[1], frames.device)
    left, right, before, behind = _taps(frames.shape[2], frames.device)
    rows = frames[:, top] * above[:, None, None] + frames[:, bottom] * below[:, None, None]
    return (rows[:, :, left] * before[:, None] + rows[:, :, right] * behind[:, None] + 0.5).floor_()


def _taps(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the two source pixels (of `size`) of each of the 256 output pixels, and their two weights.

    The order is: first pixel, second pixel, first weight, second weight, each of shape (256,).
    """
    # OpenCV rounds positions to 5 binary places.
    position = (torch.arange(SIDE, device=device) * (size / SIDE) * 32).round() / 32
    first = position.long()
    second = (first + 1).clamp(max=size - 1)
    weight = position - first
    return first, second, 1 - weight, weight * (first + 1 < size)
