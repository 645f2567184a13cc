"""MediaPipe's selfie segmentation in torch, with the weights of MediaPipe's tflite file.

Source: https://ai.google.dev/edge/mediapipe (general model, 256x256; npm `@mediapipe/selfie_segmentation`).
Licence of the model and its weights: Apache-2.0. `net` holds the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from pydantic import Field
from torch import Tensor

from worker.jobs.errors import ModelMissing
from worker.video.model import Clip, Colour, Options, Output, Picture
from worker.video.models.frame_threads import FrameThreads
from worker.video.models.selfie_segmentation.composite import Background, Compositor, Effect, compositor
from worker.video.models.selfie_segmentation.net import SIDE, SelfieNet
from worker.video.models.selfie_segmentation.openvino_net import load_openvino
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

    def __init__(
        self, net: SelfieNet, device: torch.device, run: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._net = net
        self._device = device
        self._run = run or net
        self._threads = FrameThreads() if device.type == "cpu" else None

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
        return cls(net, device, load_openvino(weights) if device.type == "cpu" else None)

    def compile(self) -> None:
        """Compile the net for its one input size, 256x256. On a GPU torch also records a CUDA graph."""
        self._run, self._threads = self._net, None
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
        if self._threads is None:
            return self._alpha(frames)
        return self._threads.fill(torch.empty((len(frames), 1, *frames.shape[1:3])), self._alpha, frames)

    def composite(self, compose: Compositor, frames: Tensor, alpha: Tensor) -> Tensor:
        """Return the `frames` (B,H,W,3) uint8 RGB composited by `alpha` (B,1,H,W) float."""
        if self._threads is None:
            return compose(frames, alpha)
        return self._threads.fill(torch.empty_like(frames), compose, frames, alpha)

    def _alpha(self, frames: Tensor) -> Tensor:
        # The permuted tensor is channels-last in memory, as is the net: 1.5 times as fast on a CPU.
        squares = _squares(frames).permute(0, 3, 1, 2) / 255
        return F.interpolate(self._run(squares), frames.shape[1:3], mode="bilinear")


class MattingPass:
    """One job: each frame is composited by its own matte."""

    def __init__(self, model: SelfieSegmentation, compose: Compositor) -> None:
        self._model = model
        self._compose = compose

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return the composited `frames` (B,H,W,3) uint8 RGB."""
        return self._model.composite(self._compose, frames, self._matte(self._model.alpha(frames), valid))

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
    rows, above = _taps(frames.shape[1], frames.device)
    columns, beside = _taps(frames.shape[2], frames.device)
    # Between rows in whole 1/32, whose sums fit into 16 bits. A CPU adds these faster than floats.
    lines = frames.index_select(1, rows).view(-1, 2, SIDE, frames.shape[2] * 3).short().mul_(above[..., None])
    pixels = lines[:, 0].add_(lines[:, 1]).view(-1, SIDE, frames.shape[2], 3).index_select(2, columns)
    weights = (beside / 1024).repeat_interleave(3, 1)
    sums = pixels.view(-1, SIDE, 2, SIDE * 3).float().mul_(weights)
    return sums[:, :, 0].add_(sums[:, :, 1]).add_(0.5).floor_().view(-1, SIDE, SIDE, 3)


def _taps(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the two source pixels (of `size`) of each of the 256 output pixels, and their weights in 1/32.

    The pixels are (512,): the first ones of all output pixels, then the second ones. The weights are int16
    (2,256). Pixels beyond the last one are black, so their weights are 0.
    """
    # OpenCV rounds positions to 5 binary places.
    position = (torch.arange(SIDE, device=device) * (size / SIDE) * 32).round().long()
    taps = torch.stack((position // 32, position // 32 + 1))
    weights = torch.stack((32 - position % 32, position % 32)) * (taps < size)
    return taps.clamp(max=size - 1).flatten(), weights.short()
