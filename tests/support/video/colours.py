"""Clips of known colours, coded by the formulas of the standards and stored without loss (FFV1)."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COLOURS",
    "PATCH",
    "code_pq",
    "code_ycc",
    "constant_luminance",
    "patches",
    "read_colour",
    "write_planes",
    "ycgco",
]

Values = NDArray[np.float64]

#: Side of a patch in pixels.
PATCH = 16
#: The RGB colours of the patches of a picture, from left to right.
COLOURS = np.array(
    [
        [0, 177, 64],
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 255],
        [0, 0, 0],
        [200, 120, 60],
        [90, 90, 160],
    ]
)

#: Weights of red and blue in brightness, by the matrix's number in ITU-T H.273.
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
            9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}  # fmt: skip


def code_ycc(rgb: Values, matrix: int) -> Values:
    """Return Y in 0..1, Cb and Cr in -0.5..0.5, stacked in the last axis, of `rgb` (…,3) in 0..1."""
    kr, kb = _WEIGHTS[matrix]
    red, green, blue = np.moveaxis(rgb, -1, 0)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    return np.stack([y, (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))], axis=-1)


def ycgco(rgb: Values) -> Values:
    """Return Y, Cg and Co of `rgb`."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    return np.stack(
        [red / 4 + green / 2 + blue / 4, -red / 4 + green / 2 - blue / 4, (red - blue) / 2], axis=-1
    )


def constant_luminance(rgb: Values) -> Values:
    """Return Y, Cb and Cr of `rgb` as BT.2020's table 4 defines them."""
    light = np.where(rgb < 0.0812, rgb / 4.5, ((rgb + 0.0993) / 1.0993) ** (1 / 0.45))
    y = light @ [0.2627, 0.6780, 0.0593]
    y = np.where(y < 0.0181, 4.5 * y, 1.0993 * y**0.45 - 0.0993)
    blue, red = rgb[..., 2] - y, rgb[..., 0] - y
    return np.stack(
        [y, blue / np.where(blue <= 0, 1.9404, 1.5816), red / np.where(red <= 0, 1.7184, 0.9936)], axis=-1
    )


def code_pq(nits: Values) -> Values:
    """Return the codes in 0..1 of light in cd/m² (SMPTE ST 2084)."""
    power = (nits / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def read_colour(path: Path) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Return the mean RGB of the middle of a clip's second picture, by the formulas of its tags, and these.

    The clip is 4:2:0 of 8 bits in the limited range, as results are.
    """
    with av.open(path) as container:
        _, frame, *_ = container.decode(video=0)
    assert (frame.format.name, frame.color_range) == ("yuv420p", 1)
    middles = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]
        middles.append(
            rows[plane.height // 4 : -plane.height // 4, plane.width // 4 : -plane.width // 4].mean()
        )
    y, cb, cr = (middles[0] - 16) / 219, (middles[1] - 128) / 224, (middles[2] - 128) / 224
    kr, kb = _WEIGHTS[frame.colorspace]
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    rgb = np.array([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue])
    return rgb * 255, (frame.colorspace, frame.color_primaries, frame.color_trc)


def patches(colours: Values) -> Values:
    """Return a picture (PATCH,8 PATCH,3) of the colours (8,3)."""
    return np.repeat(np.repeat(colours[None], PATCH, axis=0), PATCH, axis=1)


def write_planes(
    path: Path,
    ycc: Values,
    pix_fmt: str = "yuv444p",
    *,
    full: bool = False,
    tags: Sequence[int] = (2, 2, 2),
    frames: int = 2,
    size: tuple[int, int] | None = None,
) -> Path:
    """Write a clip whose pictures have the coded colours `ycc` (8,3), as patches.

    `tags` are the numbers of matrix, primaries and transfer. `size` is width and height, if the patches
    are to be repeated to fill a larger picture.
    """
    picture = patches(ycc)
    if size:
        picture = np.tile(picture, (-(-size[1] // PATCH), -(-size[0] // picture.shape[1]), 1))[
            : size[1], : size[0]
        ]
    height, width = picture.shape[:2]
    with av.open(path, "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = tags
        context.color_range = 2 if full else 1
        for index in range(frames):
            frame = av.VideoFrame(width, height, pix_fmt)
            frame.colorspace, frame.color_primaries, frame.color_trc = tags
            frame.color_range, frame.pts = (2 if full else 1), index
            for number, plane in enumerate(frame.planes[:3]):
                _fill(plane, picture[..., number], frame.format.components[0].bits, number > 0, full)
            for plane in frame.planes[3:]:  # alpha: opaque
                plane.update(b"\xff" * plane.buffer_size)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def _fill(plane: av.video.plane.VideoPlane, values: Values, bits: int, is_chroma: bool, full: bool) -> None:
    """Write the values into the plane. Colour differences lie in -0.5..0.5."""
    unit = 2 ** (bits - 8)
    if full:
        codes = values * (2**bits - 1) + (2 ** (bits - 1) if is_chroma else 0)
    else:
        codes = values * (224 if is_chroma else 219) * unit + (128 if is_chroma else 16) * unit
    rows, columns = (
        side // part for side, part in zip(values.shape, (plane.height, plane.width), strict=True)
    )
    kind: type[np.generic] = np.uint8 if bits == 8 else np.uint16
    target = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
    target[:, : plane.width] = codes[::rows, ::columns].round().clip(0, 2**bits - 1)
