"""MediaPipe's selfie segmentation in torch, with the weights read from its tflite file.

Source: https://ai.google.dev/edge/mediapipe (general model, 256x256; npm `@mediapipe/selfie_segmentation`).
Licence of the model and its weights: Apache-2.0. MobileNetV3 encoder, light decoder, 106,401 parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from worker.video.models.tflite_weights import read_weights

#: the net's input and output are squares of this many pixels
SIDE = 256


class SelfieSegmentation:
    """Who is in the picture: alpha for a batch of frames of any size (a VideoModel).

    All in float32, and really so: its edges are so steep that rounding what goes into any one convolution to
    10 bits, as half precision does and TF32 too, moves the alpha there by up to 0.08.
    """

    def __init__(self, net: SelfieNet) -> None:
        self._net = net

    @classmethod
    def load(cls, path: Path, device: str) -> Self:
        """Read the weights from the tflite file at `path`; ModelMissing if they are not this model's."""
        net = SelfieNet()
        net.load_state_dict(read_weights(path, net.state_dict()))
        if device.startswith("cuda"):
            torch.backends.cudnn.allow_tf32 = False
        net.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        return cls(net)

    def compile(self) -> None:
        """Compile the net, whose input is always 256x256; on a GPU, into a CUDA graph."""
        self._net.compile(dynamic=False, mode="reduce-overhead")

    @torch.inference_mode()
    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Alpha (B,1,H,W) float of `frames` (B,H,W,3) uint8, each frame for itself: padding is harmless."""
        # channels last in memory, as the net is: half again as fast on a CPU
        squares = _squares(frames).permute(0, 3, 1, 2) / 255
        return F.interpolate(self._net(squares), frames.shape[1:3], mode="bilinear")


def _squares(frames: Tensor) -> Tensor:
    """Resize (B,H,W,3) uint8 to (B,256,256,3) whole-numbered float, bit for bit as MediaPipe's CPU path does.

    That is OpenCV's warpPerspective: bilinear from the pixels' corners (not their centres), black beyond the
    last row and column, rounded. Half a pixel off here moves the alpha of a small clip's edges by up to 0.5.
    """
    top, bottom, above, below = _taps(frames.shape[1], frames.device)
    left, right, before, behind = _taps(frames.shape[2], frames.device)
    rows = frames[:, top] * above[:, None, None] + frames[:, bottom] * below[:, None, None]
    return (rows[:, :, left] * before[:, None] + rows[:, :, right] * behind[:, None] + 0.5).floor_()


def _taps(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of 256 output pixels: its two source pixels out of `size`, and their weights."""
    position = (torch.arange(SIDE, device=device) * (size / SIDE) * 32).round() / 32  # OpenCV keeps 5 bits
    first = position.long()
    second = (first + 1).clamp(max=size - 1)
    weight = position - first
    return first, second, 1 - weight, weight * (first + 1 < size)


class SelfieNet(nn.Module):
    """The bare net. Its parameters come in the order of the tflite graph: `load` relies on that."""

    def __init__(self) -> None:
        super().__init__()
        relu, hard = nn.ReLU(), nn.Hardswish()
        self.stem = SameConv(3, 16, 3, stride=2)
        self.stage1 = InvertedResidual(16, 16, 16, 3, relu, stride=2, squeezed=8)
        self.stage2 = nn.Sequential(
            InvertedResidual(16, 72, 24, 3, relu, stride=2),
            InvertedResidual(24, 88, 24, 3, relu),
        )
        self.stage3 = nn.Sequential(
            InvertedResidual(24, 96, 32, 5, hard, stride=2, squeezed=24),
            InvertedResidual(32, 128, 32, 5, hard, squeezed=32),
            InvertedResidual(32, 128, 32, 5, hard, squeezed=32),
            InvertedResidual(32, 96, 32, 5, hard, squeezed=24),
            InvertedResidual(32, 96, 32, 5, hard, squeezed=24),
        )
        self.head = nn.Conv2d(32, 128, 1)
        self.gate = nn.Conv2d(32, 128, 1)
        self.up3 = Upsample(128, 24)
        self.up2 = Upsample(24, 16)
        self.up1 = Upsample(16, 16)
        self.last = nn.ConvTranspose2d(16, 1, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Alpha (N,1,256,256) in 0..1 for `x` (N,3,256,256), RGB in 0..1."""
        half = F.hardswish(self.stem(x))
        quarter = self.stage1(half)
        eighth = self.stage2(quarter)
        y = self.stage3(eighth)
        y = F.relu(self.head(y)) * torch.sigmoid(self.gate(_mean(y)))
        y = self.up1(self.up2(self.up3(y, eighth), quarter), half)
        return torch.sigmoid(self.last(y))


class SameConv(nn.Conv2d):
    """TensorFlow's SAME padding, which is one-sided at stride 2 on even sizes."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(N,inputs,H,W) to (N,outputs,H/stride,W/stride), rounded up."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(x)


class SqueezeExcite(nn.Module):
    """A weight in 0..1 for each channel."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N,channels,H,W) to (N,channels,1,1)."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(_mean(x)))))


class InvertedResidual(nn.Module):
    """MobileNetV3's block: widen to `wide` channels, filter each, weigh them if `squeezed`, narrow again."""

    def __init__(
        self,
        inputs: int,
        wide: int,
        outputs: int,
        kernel: int,
        activation: nn.Module,
        *,
        stride: int = 1,
        squeezed: int = 0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.residual = inputs == outputs and stride == 1
        self.widen = nn.Conv2d(inputs, wide, 1)
        self.depthwise = SameConv(wide, wide, kernel, stride=stride, groups=wide)
        self.weigh = SqueezeExcite(wide, squeezed) if squeezed else None
        self.narrow = nn.Conv2d(wide, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N,inputs,H,W) to (N,outputs,H/stride,W/stride)."""
        y: Tensor = self.activation(self.depthwise(self.activation(self.widen(x))))
        if self.weigh is not None:
            y = y * self.weigh(y)
        y = self.narrow(y)
        return y + x if self.residual else y


class Upsample(nn.Module):
    """Double the size and take in the encoder's `skip` of that size, weighed by both."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(inputs, outputs, 1)
        self.weigh = SqueezeExcite(outputs, outputs)
        self.pointwise = nn.Conv2d(outputs, outputs, 1)
        self.depthwise = SameConv(outputs, outputs, 3, groups=outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """`x` (N,inputs,H/2,W/2) and `skip` (N,outputs,H,W) to (N,outputs,H,W)."""
        x = self.lateral(F.interpolate(x, skip.shape[2:], mode="bilinear"))
        y = F.relu(self.pointwise(skip * self.weigh(skip + x) + x))
        return y + F.relu(self.depthwise(y))


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)
