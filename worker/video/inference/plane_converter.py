"""Converts frames between planes and RGB on the device of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.tags import BRIGHTNESS_WEIGHTS, Matrix

__all__ = ["PlaneConverter"]

#: The most pixels that are converted at once. A pixel takes about 10 bytes of temporary memory.
MAX_PIXELS = 2**22
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

    def to_rgb(self, frames: Tensor) -> Tensor:
        """Return the RGB (N,H,W,3) of the frames, both uint8. The codes are those of libav."""
        if self.form is PixelForm.RGB:
            return frames
        count, rows, width = frames.shape
        rgb = frames.new_empty((count, rows * 2 // 3, width, 3))
        for source, target in _parts(frames, rgb):
            self._fill_rgb(source, target)
        return rgb

    def to_planes(self, rgb: Tensor) -> Tensor:
        """Return planes (N,H*3/2,W) in the limited range of `rgb` (N,H,W,3), both uint8.

        A code differs by 1 at most from that of libav, if there are at least 8 rows.
        """
        count, height, width, _ = rgb.shape
        planes = rgb.new_empty((count, height * 3 // 2, width))
        for source, target in _parts(rgb, planes):
            self._fill_planes(source, target)
        return planes

    def _fill_rgb(self, planes: Tensor, rgb: Tensor) -> None:
        y, chroma = _split(planes)
        limited = self.form is PixelForm.PLANES
        brightness = y.int().sub_(16 if limited else 0)
        brightness.mul_(_factor(255 / 219 if limited else 1)).bitwise_right_shift_(SHIFT)
        blue, red = (chroma.int() - 128).unbind(1)
        unit = 255 / 224 if limited else 1
        to_red, to_blue = 2 * (1 - self._red) * unit, 2 * (1 - self._blue) * unit
        green = 1 - self._red - self._blue
        differences = (
            _scaled(red, to_red),
            _scaled(red, -to_red * self._red / green) + _scaled(blue, -to_blue * self._blue / green),
            _scaled(blue, to_blue),
        )
        blocks = brightness.view(*_blocks(brightness))
        for channel, difference in enumerate(differences):
            codes = blocks + difference[:, :, None, :, None]
            rgb[..., channel] = codes.clamp_(0, 255).view(brightness.shape)

    def _fill_planes(self, rgb: Tensor, planes: Tensor) -> None:
        y, chroma = _split(planes)
        red, green, blue = rgb.unbind(-1)
        brightness = red * self._red
        brightness.add_(green, alpha=1 - self._red - self._blue).add_(blue, alpha=self._blue)
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


def _parts(source: Tensor, target: Tensor) -> zip[tuple[Tensor, Tensor]]:
    """Return the parts of both that are converted at once."""
    size = max(1, MAX_PIXELS // (source.shape[1] * source.shape[2]))
    return zip(torch.split(source, size), torch.split(target, size), strict=True)


def _split(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return views of the brightness (N,H,W) and of the colour differences (N,2,H/2,W/2)."""
    count, rows, width = planes.shape
    height = rows * 2 // 3
    return planes[:, :height], planes[:, height:].view(count, 2, height // 2, width // 2)


def _blocks(brightness: Tensor) -> tuple[int, ...]:
    """Return the shape in which each block of 2x2 pixels has the axes 2 and 4."""
    count, height, width = brightness.shape
    return count, height // 2, 2, width // 2, 2


def _factor(value: float) -> int:
    return round(value * (1 << SHIFT))


def _scaled(difference: Tensor, factor: float) -> Tensor:
    """Return the whole part of difference * factor, rounded down."""
    return (difference * _factor(factor)).bitwise_right_shift_(SHIFT)
