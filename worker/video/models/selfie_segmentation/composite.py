"""Composites frames on the device: keeps the foreground that alpha marks, and replaces the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Background", "Compositor", "Effect", "blur", "compositor", "cover"]

Effect = Literal["background", "blur", "matte"]
#: An RGB colour, or an image (h,w,3) uint8 RGB.
Background = tuple[int, int, int] | NDArray[np.uint8]

#: A function (frames (B,H,W,3) uint8, alpha (B,1,H,W) float) -> (B,H,W,3) uint8, all on the device.
Compositor = Callable[[Tensor, Tensor], Tensor]

#: Strength of the blur: sigma of the Gaussian as a fraction of the clip's height.
BLUR = 1 / 40
#: A picture is shrunk before the blur, by a factor that leaves this sigma in pixels. The difference is
#: invisible.
_SMALL_SIGMA = 3.0
#: Pixels that a CPU blends at once.
BAND = 2**15


def compositor(
    effect: Effect, background: Background, height: int, width: int, device: torch.device
) -> Compositor:
    """Return the function that applies `effect` to batches of one clip of `height` x `width` pixels.

    - `background` replaces the surroundings by `background`. An image is scaled and cropped to cover the
      clip, once, before the function returns.
    - `blur` blurs the surroundings.
    - `matte` shows alpha as a grey picture.
    """
    if effect == "matte":
        return _matte
    if effect == "blur":
        return lambda frames, alpha: _blend(frames, alpha, blur(frames))
    if isinstance(background, tuple):
        colour = torch.tensor(background, dtype=torch.float32, device=device)
        behind = colour.expand(height, width, 3).contiguous()
    else:
        behind = cover(torch.tensor(background, device=device), height, width)
    return lambda frames, alpha: _blend(frames, alpha, behind)


def cover(image: Tensor, height: int, width: int) -> Tensor:
    """Scale `image` (h,w,3) uint8 so that it covers `height` x `width` pixels, and crop the excess evenly.

    Return (height,width,3) float in 0..255. The image keeps its aspect ratio. Scaling is bilinear with
    antialiasing.
    """
    scale = max(height / image.shape[0], width / image.shape[1])
    rows, columns = min(image.shape[0], round(height / scale)), min(image.shape[1], round(width / scale))
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    cropped = image[top : top + rows, left : left + columns].permute(2, 0, 1)[None].float()
    return F.interpolate(cropped, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def blur(frames: Tensor) -> Tensor:
    """Blur `frames` (B,H,W,3) uint8 with a Gaussian of sigma H/40. Return (B,H,W,3) float in 0..255.

    The Gaussian is separable, so two one-dimensional convolutions suffice: one along each axis.
    """
    height, width = frames.shape[1:3]
    sigma = height * BLUR
    shrink = max(1, int(sigma / _SMALL_SIGMA))
    pictures = F.avg_pool2d(frames.permute(0, 3, 1, 2).float(), shrink, ceil_mode=True)
    kernel = _gaussian(sigma / shrink, frames.device)
    for axis, shape in (2, (-1, 1)), (3, (1, -1)):
        reach = min(len(kernel) // 2, pictures.shape[axis] - 1)
        taps = kernel[len(kernel) // 2 - reach : len(kernel) // 2 + reach + 1]
        edges = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        weight = (taps / taps.sum()).view(1, 1, *shape).expand(3, -1, -1, -1)
        pictures = F.conv2d(F.pad(pictures, edges, mode="reflect"), weight, groups=3)
    return F.interpolate(pictures, (height, width), mode="bilinear").permute(0, 2, 3, 1)


def _gaussian(sigma: float, device: torch.device) -> Tensor:
    """Return exp(-x² / (2 sigma²)) for the integers x with |x| <= ⌈3 sigma⌉, not normalised.

    The kernel is computed on the device: a copy from the host would wait for all queued work of the device.
    """
    reach = math.ceil(3 * sigma)
    return torch.exp(-(torch.arange(-reach, reach + 1, device=device) ** 2) / (2 * sigma**2))


def _blend(frames: Tensor, alpha: Tensor, behind: Tensor) -> Tensor:
    """Return alpha · frames + (1 - alpha) · behind, rounded to uint8.

    `frames` is (B,H,W,3) uint8, `alpha` (B,1,H,W) float. `behind` is float, (H,W,3) or (B,H,W,3).
    """
    if frames.is_cuda:
        return torch.lerp(behind, frames.float(), alpha.permute(0, 2, 3, 1)).add_(0.5).to(torch.uint8)
    blended = torch.empty_like(frames)
    colours = torch.arange(frames.shape[2]).repeat_interleave(3)  # one weight for each colour of a pixel
    bands = map(_bands, (blended, frames, alpha[:, 0], behind.expand(frames.shape)))
    for out, pixels, weight, back in zip(*bands, strict=True):
        weights = weight.index_select(1, colours).view(pixels.shape)
        # By way of int16: torch has no vector instructions from float to uint8.
        out.copy_(torch.lerp(back, pixels.float(), weights).add_(0.5).short())
    return blended


def _bands(frames: Tensor) -> Iterator[Tensor]:
    """Yield the rows of `frames` (B,H,W,…) in pieces (rows,W,…) that a core of the CPU keeps in its cache."""
    rows = max(1, BAND // frames.shape[2])
    return chain.from_iterable(frame.split(rows) for frame in frames)


def _matte(frames: Tensor, alpha: Tensor) -> Tensor:
    """Return `alpha` (B,1,H,W) as grey pictures (B,H,W,3) uint8."""
    return (alpha * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).expand(frames.shape)
