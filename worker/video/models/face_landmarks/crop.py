"""Cuts rotated squares out of frames, with the values that MediaPipe's CPU path computes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crop", "to_frame"]


def crop(frames: Tensor, numbers: Tensor, squares: Tensor, side: int, *, black: bool) -> Tensor:
    """Return the squares as pictures (N,3,side,side), channels last in memory, with integer values in 0..255.

    `frames` is (B,H,W,3) uint8. `numbers` (N,) says from which frame each square is cut. `squares` (N,4) has
    centre x, centre y, width and angle, in pixels and radians. Outside of the frame the pictures are black
    (`black`), or they repeat the frame's border.

    MediaPipe calls OpenCV's warpPerspective, which samples between the corners of pixels, not their centres.
    It rounds positions to 5 binary places, and values to integers.
    """
    height, width = frames.shape[1:3]
    steps = torch.arange(side, device=frames.device) / side
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = (to_frame(torch.stack((x, y), 2).reshape(1, -1, 2), squares) * 32).round() / 32
    x, y = places.unbind(2)
    inner_x, inner_y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = inner_x.floor().clamp(max=width - 2), inner_y.floor().clamp(max=height - 2)
    first = (numbers[:, None] * height + top.long()) * width + left.long()
    # A row is a pixel and its right neighbour, so there are two rows to gather for a place, not four.
    pairs = frames.flatten().unfold(0, 6, 3)
    upper, lower = (
        pairs.index_select(0, (first + step).flatten()).float().reshape(len(squares), -1, 6)
        for step in (0, width)
    )
    rows = upper.lerp_(lower, (inner_y - top)[..., None])
    picture = rows[..., :3].lerp(rows[..., 3:], (inner_x - left)[..., None])
    if black:  # OpenCV interpolates between the border's pixels and black ones next to them
        picture *= ((1 - (x - inner_x).abs()) * (1 - (y - inner_y).abs())).clamp(min=0)[..., None]
    return (picture + 0.5).floor_().reshape(-1, side, side, 3).permute(0, 3, 1, 2)


def to_frame(points: Tensor, squares: Tensor) -> Tensor:
    """Map `points` (N,P,2), as (x, y) in 0..1 of each of the `squares` (N,4), to pixels of the frame."""
    x, y = (points - 0.5).unbind(2)
    centre_x, centre_y, width, angle = squares[:, :, None].unbind(1)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack(
        (centre_x + width * (cosine * x - sine * y), centre_y + width * (sine * x + cosine * y)), 2
    )
