"""A convolution with TensorFlow's padding, for networks that come from TensorFlow."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

__all__ = ["SameConv"]


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, which is one-sided at stride 2 on even sizes."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N,inputs,H,W) to (N,outputs,⌈H/stride⌉,⌈W/stride⌉)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        if rows % 2 or columns % 2:
            x = F.pad(x, (0, columns % 2, 0, rows % 2))
        return F.conv2d(x, self.weight, self.bias, stride, (rows // 2, columns // 2), groups=self.groups)
