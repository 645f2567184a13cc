"""Puts a new background behind what the alpha marks as foreground, on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import av
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from numpy.typing import NDArray
from torch import Tensor

from worker.jobs.errors import BadVideo
from worker.jobs.media.probe import IMAGES, open_media

Effect = Literal["background", "blur", "matte"]
Background = tuple[int, int, int] | Path | NDArray[np.uint8]

#: (frames (B,H,W,3) uint8, alpha (B,1,H,W) float) -> (B,H,W,3) uint8
Compositor = Callable[[Tensor, Tensor], Tensor]

#: strength of the blur: the Gaussian's sigma as a part of the clip's height
BLUR = 1 / 40
#: the blur is made on a smaller picture, by as much as leaves this sigma in pixels: nobody sees it
_SMALL_SIGMA = 3.0


def compositor(effect: Effect, background: Background, height: int, width: int, device: str) -> Compositor:
    """The function that does `effect` to batches of one clip; the background is prepared here, once.

    `background` counts for the effect of that name only: a colour, or an image (a file, or (h,w,3) uint8)
    that is cut to cover the clip. Raises BadVideo if it cannot be read.
    """
    if effect == "matte":
        return _matte
    if effect == "blur":
        return lambda frames, alpha: _blend(frames, alpha, blurred(frames))
    if isinstance(background, tuple):
        behind = torch.tensor(background, dtype=torch.float32, device=device)
    else:
        image = load_image(background) if isinstance(background, Path) else background
        behind = cover(torch.tensor(image, device=device), height, width)
    return lambda frames, alpha: _blend(frames, alpha, behind)


def load_image(path: Path) -> NDArray[np.uint8]:
    """The picture in `path` as (h,w,3) uint8 RGB; BadVideo if it is not one."""
    try:
        with open_media(path, IMAGES) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise BadVideo("The background image cannot be decoded.") from error


def cover(image: Tensor, height: int, width: int) -> Tensor:
    """Scale `image` (h,w,3) uint8 to cover `height` x `width`, and cut off evenly what stands out; float."""
    scale = max(height / image.shape[0], width / image.shape[1])
    rows, columns = min(image.shape[0], round(height / scale)), min(image.shape[1], round(width / scale))
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    cut = image[top : top + rows, left : left + columns].permute(2, 0, 1)[None].float()
    return F.interpolate(cut, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def blurred(frames: Tensor) -> Tensor:
    """Gaussian blur of (B,H,W,3) uint8 by two one-dimensional convolutions; float."""
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
    """Made where it is used: a copy from the host would wait for all that the device has still to do."""
    reach = math.ceil(3 * sigma)
    return torch.exp(-(torch.arange(-reach, reach + 1, device=device) ** 2) / (2 * sigma**2))


def _blend(frames: Tensor, alpha: Tensor, behind: Tensor) -> Tensor:
    """`frames` where alpha is 1, `behind` (broadcast to (B,H,W,3)) where it is 0; rounded."""
    mixed = torch.lerp(behind.expand(frames.shape), frames.float(), alpha.permute(0, 2, 3, 1))
    return mixed.add_(0.5).to(torch.uint8)


def _matte(frames: Tensor, alpha: Tensor) -> Tensor:
    """The alpha as a grey picture."""
    return (alpha * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).expand(frames.shape)
