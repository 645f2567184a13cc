"""Converts pictures to RGB whose matrix libav does not know, by the formulas of ITU-T H.273, section 8.3."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from worker.video.colour.primaries import brightness_weights
from worker.video.colour.tags import ColourTags, Matrix

__all__ = ["CONVERTED", "to_rgb16"]

Plane = NDArray[np.floating]

#: The matrices that `to_rgb16` converts.
CONVERTED = {Matrix.YCGCO, Matrix.BT2020_CL, Matrix.CHROMA_DERIVED_NCL, Matrix.CHROMA_DERIVED_CL}


def to_rgb16(frame: VideoFrame, tags: ColourTags, reformatter: VideoReformatter) -> VideoFrame:
    """Return the frame, whose matrix is one of `CONVERTED`, as RGB of 16 bits a colour ("rgb48le")."""
    y, cb, cr = _planes(frame, reformatter)
    kr, kb = (0.2627, 0.0593) if tags.matrix == Matrix.BT2020_CL else brightness_weights(tags.primaries)
    rgb: tuple[Plane, Plane, Plane]
    match tags.matrix:
        case Matrix.YCGCO:
            rgb = (y - cb + cr, y + cb, y - cb - cr)
        case Matrix.CHROMA_DERIVED_NCL:
            red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
            rgb = (red, (y - kr * red - kb * blue) / (1 - kr - kb), blue)
        case _:
            rgb = _constant_luminance(y, cb, cr, kr, kb)
    codes = (np.stack(rgb, axis=-1).clip(0, 1) * 65535 + 0.5).astype(np.uint16)
    result = VideoFrame.from_ndarray(codes, format="rgb48le")
    result.colorspace, result.pts = Matrix.RGB, frame.pts
    return result


def _planes(frame: VideoFrame, reformatter: VideoReformatter) -> tuple[Plane, Plane, Plane]:
    """Return the brightness in 0..1 and the colour differences in -0.5..0.5, all (H,W)."""
    bits = frame.format.components[0].bits
    is_full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
    stated, frame.colorspace = frame.colorspace, Matrix.BT709  # libav refuses to scale others
    try:
        scaled = reformatter.reformat(frame, format="yuv444p16le")
    finally:
        frame.colorspace = stated
    # libav shifts the codes of fewer bits to the left.
    unit, half = 2.0 ** (16 - bits), 2.0 ** (bits - 1)
    black, white, colours = (
        (0, 2**bits - 1, 2**bits - 1) if is_full else (half / 8, half * 219 / 128, half * 1.75)
    )
    y, cb, cr = (_plane(scaled, index) / unit for index in range(3))
    return (y - black) / white, (cb - half) / colours, (cr - half) / colours


def _plane(frame: VideoFrame, index: int) -> Plane:
    plane = frame.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, plane.line_size // 2)
    return rows[:, : plane.width].astype(np.float32)


def _constant_luminance(y: Plane, cb: Plane, cr: Plane, kr: float, kb: float) -> tuple[Plane, Plane, Plane]:
    """Convert from "constant luminance", which codes the brightness of light (BT.2020, table 4)."""
    ends_blue, ends_red = (
        np.where(difference <= 0, _code(1 - weight), 1 - _code(weight))
        for difference, weight in ((cb, kb), (cr, kr))
    )
    red, blue = y + 2 * ends_red * cr, y + 2 * ends_blue * cb
    light = (_light(y) - kr * _light(red) - kb * _light(blue)) / (1 - kr - kb)
    return red, _code(light.clip(0, 1)), blue


def _code(light: Plane | float) -> Plane:
    """Apply the transfer function of BT.2020."""
    return np.where(light < 0.018054, 4.5 * light, 1.099297 * np.power(light, 0.45) - 0.099297)


def _light(code: Plane) -> Plane:
    code = code.clip(0, 1)
    return np.where(code < 0.081243, code / 4.5, ((code + 0.099297) / 1.099297) ** (1 / 0.45))
