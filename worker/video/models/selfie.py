"""MediaPipe's selfie segmentation in torch, with the weights of MediaPipe's tflite file.

Source: https://ai.google.dev/edge/mediapipe (general model, 256x256; npm `@mediapipe/selfie_segmentation`).
Licence of the model and its weights: Apache-2.0. `selfie_net` holds the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor

from worker.video.models.selfie_net import SIDE, SelfieNet
from worker.video.models.tflite_weights import read_weights

__all__ = ["SelfieSegmentation"]


class SelfieSegmentation:
    """A `VideoModel` that finds people, in frames of any size.

    It computes in full float32. Its edges are so steep that rounding the input of any one convolution to 10
    bits, as half precision and TF32 do, moves the alpha at an edge by up to 0.08.
    """

    def __init__(self, net: SelfieNet) -> None:
        self._net = net

    @classmethod
    def load(cls, path: Path, device: str) -> Self:
        """Read the weights from the tflite file at `path` and move the net to `device`.

        On a GPU this disables TF32 for all convolutions of the process. Raises `ModelMissing` if the weights
        are not this model's.
        """
        net = SelfieNet()
        net.load_state_dict(read_weights(path, net.state_dict()))
        if device.startswith("cuda"):
            torch.backends.cudnn.allow_tf32 = False
        net.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        return cls(net)

    def compile(self) -> None:
        """Compile the net for its one input size, 256x256. On a GPU torch also records a CUDA graph."""
        self._net.compile(dynamic=False, mode="reduce-overhead")

    @torch.inference_mode()
    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return alpha (B,1,H,W) float in 0..1 for `frames` (B,H,W,3) uint8 RGB.

        Each frame's result is independent of the others, so padding needs no special treatment.
        """
        # The permuted tensor is channels-last in memory, as is the net: 1.5 times as fast on a CPU.
        squares = _squares(frames).permute(0, 3, 1, 2) / 255
        return F.interpolate(self._net(squares), frames.shape[1:3], mode="bilinear")


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
