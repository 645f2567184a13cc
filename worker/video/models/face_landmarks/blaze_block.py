"""The block that both networks of MediaPipe's face landmarks consist of."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from worker.video.models.same_conv import SameConv

__all__ = ["BlazeBlock"]


class BlazeBlock(nn.Module):
    """BlazeFace's residual block: filter each channel, mix the channels, and add the input.

    With stride 2, the largest of each 2x2 pixels of the input is added. The input has no part in channels
    that only the output has. `activation` has its own weights, or none.
    """

    def __init__(self, inputs: int, outputs: int, activation: nn.Module, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = SameConv(inputs, inputs, 3, stride=stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N,inputs,H,W), with even H and W, to (N,outputs,H/stride,W/stride)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        if self.stride == 2:
            x = F.max_pool2d(x, 2)
        y[:, : x.shape[1]] += x
        activated: Tensor = self.activation(y)
        return activated
