"""Converts frames between planes and RGB on the device of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.tags import BRIGHTNESS_WEIGHTS, Matrix

__all__ = ["PlaneConverter"]

#: The most pixels that are converted at once: a batch of 16 frames of 1280x720. With fewer, a GPU waits for
#: the host, which issues the operations. A pixel takes up to 16 bytes of temporary memory.
MAX_PIXELS = 2**24
#: The steps of libav's scaler between two codes: its factors are whole multiples of 1 / 2**SHIFT.
SHIFT = 13


class PlaneConverter:
    """Converter of the frames of one clip, which have the form `form`, and of the planes of its results.

    `matrix` is that of all planes. The converter calculates as libav's scaler does, which converts the frames
    of a CPU. Each pixel gets the nearest sample of a colour difference. A sample is the mean of 2 pixels in a
    row, and of 4 rows of which those in the middle weigh three times as much.
    """

    def __init__(self, matrix: int, form: PixelForm) -> None:
        self.form = form
        self._red, self._blue = BRIGHTNESS_WEIGHTS[Matrix(matrix)]
        self._green = 1 - self._red - self._blue

    def to_rgb(self, frames: Tensor) -> Tensor:
        """Return the RGB (N,H,W,3) of the frames, both uint8. The codes are those of libav."""
        if self.form is PixelForm.RGB:
            return frames
        count, rows, width = frames.shape
        height = rows * 2 // 3
        rgb = frames.new_empty((count, height, width, 3))
        for source, target in _parts(frames, rgb, height * width):
            self._fill_rgb(source, target)
        return rgb

    def to_planes(self, rgb: Tensor) -> Tensor:
        """Return planes (N,H*3/2,W) in the limited range of `rgb` (N,H,W,3), both uint8.

        A code differs by 1 at most from that of libav, if there are at least 8 rows.
        """
        count, height, width, _ = rgb.shape
        planes = rgb.new_empty((count, height * 3 // 2, width))
        for source, target in _parts(rgb, planes, height * width):
            self._fill_planes(source, target)
        return planes

    def _fill_rgb(self, planes: Tensor, rgb: Tensor) -> None:
        y, chroma = _split(planes)
        black, white, most = (0, 255, 255) if self.form is PixelForm.FULL_PLANES else (16, 219, 224)
        brightness = _scaled(y.int().sub_(black), 255 / white)
        blue, red = chroma.int().sub_(128).unbind(1)
        to_blue, to_red = (2 * (1 - weight) * 255 / most for weight in (self._blue, self._red))
        of_blue = _scaled(blue, -to_blue * self._blue / self._green)
        of_red = _scaled(red, -to_red * self._red / self._green)
        differences = torch.stack([_scaled(red, to_red), of_blue + of_red, _scaled(blue, to_blue)], dim=-1)
        # Each block of 2x2 pixels has the axes 2 and 4.
        count, height, width = y.shape
        blocks = brightness.view(count, height // 2, 2, width // 2, 2, 1)
        rgb.copy_((blocks + differences[:, :, None, :, None]).clamp_(0, 255).view(rgb.shape))

    def _fill_planes(self, rgb: Tensor, planes: Tensor) -> None:
        y, chroma = _split(planes)
        red, green, blue = rgb.unbind(-1)
        brightness = red * self._red
        brightness.add_(green, alpha=self._green).add_(blue, alpha=self._blue)
        pairs = brightness[..., ::2] + brightness[..., 1::2]
        y.copy_(brightness.mul_(219 / 255).add_(16.5))
        weighted = ((blue, 1 - self._blue), (red, 1 - self._red))
        # Two neighbours in a row, and four rows whose weights are 1, 3, 3 and 1, make a mean of 16.
        means = torch.stack(
            [
                (colour[..., ::2] - pairs).add_(colour[..., 1::2]).mul_(224 / 255 / 2 / weight / 16)
                for colour, weight in weighted
            ],
            dim=1,
        )
        samples = (means[:, :, ::2] + means[:, :, 1::2]).mul_(3).add_(128.5)
        samples[:, :, 1:] += means[:, :, 1:-1:2]
        samples[:, :, :-1] += means[:, :, 2::2]
        samples[:, :, 0] += means[:, :, 0]
        samples[:, :, -1] += means[:, :, -1]
        chroma.copy_(samples)


def _parts(source: Tensor, target: Tensor, pixels: int) -> zip[tuple[Tensor, Tensor]]:
    """Return the parts of both that are converted at once. Each frame has so many pixels."""
    size = max(1, MAX_PIXELS // pixels)
    return zip(torch.split(source, size), torch.split(target, size), strict=True)


def _split(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return views of the brightness (N,H,W) and of the colour differences (N,2,H/2,W/2)."""
    count, rows, width = planes.shape
    height = rows * 2 // 3
    return planes[:, :height], planes[:, height:].view(count, 2, height // 2, width // 2)


def _scaled(codes: Tensor, factor: float) -> Tensor:
    """Return codes * factor, rounded down. The codes are int32 and the result is int16."""
    return (codes * round(factor * (1 << SHIFT))).bitwise_right_shift_(SHIFT).short()
