"""The network of ESRGAN Slim: a residual dense network with two dense blocks of one convolution each.

It has 222,075 parameters. `esrgan` names its source and licence. The architecture is that of
https://arxiv.org/abs/1802.08797, with nearest-neighbour upsampling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

__all__ = ["EsrganNet"]


class EsrganNet(nn.Module):
    """The network in the scale of the original: values from 0 to 255, which its output may exceed.

    The layers have the names of the original, because the file of weights has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.F_m1 = _conv(3, 64, 3)
        self.F_0 = _conv(64, 64, 3)
        self.F_1_1 = _conv(64, 4, 3)
        self.LFF_1 = _conv(68, 64, 1)
        self.F_2_1 = _conv(64, 4, 3)
        self.LFF_2 = _conv(68, 64, 1)
        self.GFF_1 = _conv(128, 64, 1)
        self.GFF_2 = _conv(64, 64, 3)
        self.UPN1 = _conv(64, 64, 5)
        self.UPN2 = _conv(64, 32, 3)
        self.UPN3 = _conv(32, 12, 3)
        self.SR = _conv(12, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map RGB `x` (N,3,H,W) to (N,3,2H,2W)."""
        y = self._features(x)
        y = F.relu_(self.UPN1(y))
        y = F.relu_(self.UPN2(y))
        y = F.interpolate(self.UPN3(y), scale_factor=2, mode="nearest")
        out: Tensor = self.SR(y)
        return out

    def _features(self, x: Tensor) -> Tensor:
        """Map `x` (N,3,H,W) to features (N,64,H,W). Its intermediate results are freed when it returns."""
        shallow = self.F_m1(x)
        first = _dense(self.F_0(shallow), self.F_1_1, self.LFF_1)
        second = _dense(first, self.F_2_1, self.LFF_2)
        features: Tensor = self.GFF_2(self.GFF_1(torch.cat((first, second), 1)))
        return features.add_(shallow)


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Return a convolution that keeps height and width. It pads with zeros, as the original does."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def _dense(x: Tensor, grow: nn.Conv2d, fuse: nn.Conv2d) -> Tensor:
    """Map `x` (N,64,H,W) to the same shape by a residual dense block. `grow` adds 4 channels."""
    fused: Tensor = fuse(torch.cat((x, F.relu_(grow(x))), 1))
    return fused.add_(x)
