"""The network of MediaPipe's selfie segmentation: a MobileNetV3 encoder and a light decoder.

It has 106,401 parameters. `selfie` names its source and licence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from worker.video.models.same_conv import SameConv

__all__ = ["SIDE", "SelfieNet"]

#: Width and height of the net's input and output, in pixels.
SIDE = 256


class SelfieNet(nn.Module):
    """The network without resizing.

    Its parameters must stay in the order of the tflite graph, because `load` assigns them by position.
    """

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
        """Return alpha (N,1,256,256) in 0..1 for `x` (N,3,256,256), RGB in 0..1."""
        half = F.hardswish(self.stem(x))
        quarter = self.stage1(half)
        eighth = self.stage2(quarter)
        y = self.stage3(eighth)
        y = F.relu(self.head(y)) * torch.sigmoid(self.gate(_mean(y)))
        y = self.up1(self.up2(self.up3(y, eighth), quarter), half)
        return torch.sigmoid(self.last(y))


class SqueezeExcite(nn.Module):
    """A squeeze-and-excitation block: it computes a weight in 0..1 for each channel."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N,channels,H,W) to weights (N,channels,1,1)."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(_mean(x)))))


class InvertedResidual(nn.Module):
    """MobileNetV3's block: widen to `wide` channels, filter each channel, and narrow to `outputs` channels.

    With `squeezed` > 0, a `SqueezeExcite` of that width weighs the channels before they are narrowed.
    """

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
        """Map `x` (N,inputs,H,W) to (N,outputs,⌈H/stride⌉,⌈W/stride⌉)."""
        y: Tensor = self.activation(self.depthwise(self.activation(self.widen(x))))
        if self.weigh is not None:
            y = y * self.weigh(y)
        y = self.narrow(y)
        return y + x if self.residual else y


class Upsample(nn.Module):
    """A decoder step: it doubles the size and adds the encoder's features of that size.

    A `SqueezeExcite` of the sum of both weighs the encoder's features.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(inputs, outputs, 1)
        self.weigh = SqueezeExcite(outputs, outputs)
        self.pointwise = nn.Conv2d(outputs, outputs, 1)
        self.depthwise = SameConv(outputs, outputs, 3, groups=outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map `x` (N,inputs,H/2,W/2) and the encoder's `skip` (N,outputs,H,W) to (N,outputs,H,W)."""
        x = self.lateral(F.interpolate(x, skip.shape[2:], mode="bilinear"))
        y = F.relu(self.pointwise(skip * self.weigh(skip + x) + x))
        return y + F.relu(self.depthwise(y))


def _mean(x: Tensor) -> Tensor:
    """Average over height and width: (N,C,H,W) to (N,C,1,1)."""
    return x.mean((2, 3), keepdim=True)
