"""The network of MediaPipe's short-range face detector, BlazeFace.

`model` names its source and licence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worker.video.models.face_landmarks.blaze_block import BlazeBlock
from worker.video.models.same_conv import SameConv

__all__ = ["SIDE", "DetectorNet", "anchors"]

#: Width and height of the net's input, in pixels.
SIDE = 128


class DetectorNet(nn.Module):
    """The network without anchors. It rates 896 places of the picture, of two sizes.

    Its parameters must stay in the order of the tflite graph, because `load` assigns them by position.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, 24, 5, stride=2), nn.ReLU())
        self.fine = nn.Sequential(
            *_blocks(24, 24, 28),
            *_blocks(28, 32, 36, 42, stride=2),
            *_blocks(42, 48, 56, 64, 72, 80, 88, stride=2),
        )
        self.coarse = nn.Sequential(*_blocks(88, 96, 96, 96, 96, 96, stride=2))
        self.fine_scores = nn.Conv2d(88, 2, 1)
        self.coarse_scores = nn.Conv2d(96, 6, 1)
        self.fine_boxes = nn.Conv2d(88, 2 * 16, 1)
        self.coarse_boxes = nn.Conv2d(96, 6 * 16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (N,896) as logits and boxes (N,896,16) in pixels, for `x` (N,3,128,128) in -1..1.

        A box is x, y, width, height and six points (x, y), the first two of which are the eyes. The positions
        are relative to the place's anchor.
        """
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        scores = torch.cat((_rows(self.fine_scores(fine), 1), _rows(self.coarse_scores(coarse), 1)), 1)
        boxes = torch.cat((_rows(self.fine_boxes(fine), 16), _rows(self.coarse_boxes(coarse), 16)), 1)
        return scores[..., 0], boxes


def anchors(device: torch.device) -> Tensor:
    """Return the anchors (896,2) of the places, as (x, y) in pixels of the net's input."""
    return torch.cat([_grid(16, 2, device), _grid(8, 6, device)])


def _grid(cells: int, places: int, device: torch.device) -> Tensor:
    """Return the centres of `cells` x `cells` cells, row by row, each of them `places` times."""
    centres = (torch.arange(cells, device=device) + 0.5) * (SIDE / cells)
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((x, y), 2).reshape(-1, 2).repeat_interleave(places, 0)


def _blocks(inputs: int, *outputs: int, stride: int = 1) -> list[BlazeBlock]:
    """Return a chain of blocks, the first of which has the stride."""
    widths = (inputs, *outputs)
    strides = (stride, *(1 for _ in outputs[1:]))
    return [
        BlazeBlock(narrow, wide, nn.ReLU(), stride=step)
        for narrow, wide, step in zip(widths, outputs, strides, strict=False)
    ]


def _rows(x: Tensor, columns: int) -> Tensor:
    """Map (N,places*columns,H,W) to (N,H*W*places,columns)."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, columns)
