"""The network of MediaPipe's selfie segmentation: a MobileNetV3 encoder and a light decoder.

It has 106,401 parameters. `selfie` names its source and licence.
"""

from __future__ import annotations

from typing import cast

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
        relu, hard = nn.ReLU(inplace=True), nn.Hardswish(inplace=True)
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
        self.last = DoubleSize(16, 1, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return alpha (N,1,256,256) in 0..1 for `x` (N,3,256,256), RGB in 0..1."""
        half = F.hardswish(self.stem(x), inplace=True)
        quarter = self.stage1(half)
        eighth = self.stage2(quarter)
        y = self.stage3(eighth)
        y = F.relu(self.head(y), inplace=True) * _weights(self.gate, _means(y))
        y = self.up1(self.up2(self.up3(y, eighth), quarter), half)
        return torch.sigmoid(self.last(y))


class SqueezeExcite(nn.Module):
    """A squeeze-and-excitation block: it computes a weight in 0..1 for each channel."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, means: Tensor) -> Tensor:
        """Map the `means` (N,channels) of the channels to weights (N,channels,1,1)."""
        return _weights(self.excite, F.relu(_linear(self.squeeze, means)))


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
            y *= self.weigh(_means(y))
        y = self.narrow(y)
        return y.add_(x) if self.residual else y


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
        # A convolution of single pixels gives the same result before the interpolation, with a quarter of the
        # pixels. And the mean of a sum is the sum of the means.
        x = F.interpolate(self.lateral(x), skip.shape[2:], mode="bilinear")
        weights = self.weigh(_means(skip) + _means(x))
        y = F.relu(self.pointwise(torch.addcmul(x, skip, weights)), inplace=True)
        return F.relu(self.depthwise(y), inplace=True).add_(y)


class DoubleSize(nn.ConvTranspose2d):
    """A transposed convolution with a kernel of 2x2 and stride 2, as a convolution of single pixels.

    Each of the four pixels that become of one is an output channel of its own.
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no output size
        """Map `x` (N,inputs,H,W) to (N,1,2H,2W)."""
        weight = self.weight.permute(1, 2, 3, 0).reshape(4, self.in_channels, 1, 1)
        return F.pixel_shuffle(F.conv2d(x, weight, cast(Tensor, self.bias).expand(4)), 2)


def _means(x: Tensor) -> Tensor:
    """Average over height and width: (N,C,H,W) to (N,C)."""
    return x.mean((2, 3))


def _linear(layer: nn.Conv2d, means: Tensor) -> Tensor:
    """Apply a convolution of single pixels to `means` (N,inputs). Return (N,outputs)."""
    return F.linear(means, layer.weight.flatten(1), layer.bias)


def _weights(layer: nn.Conv2d, means: Tensor) -> Tensor:
    """Return the weights (N,outputs,1,1) in 0..1 that `layer` computes of `means` (N,inputs)."""
    return torch.sigmoid(_linear(layer, means))[..., None, None]
