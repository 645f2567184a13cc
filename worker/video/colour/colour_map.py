"""Maps pictures with other primaries or another transfer function, such as HDR, to BT.709."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from numpy.typing import NDArray

from worker.video.colour.primaries import to_bt709
from worker.video.colour.tags import ColourTags
from worker.video.colour.transfer import HLG_NITS, WHITE_NITS, map_tones, to_codes, to_light

__all__ = ["ColourMap", "colour_table"]

#: The table has `LEVEL`² entries for red, for green and for blue. libav interpolates between them.
LEVEL = 8
_GRID = LEVEL * LEVEL


class ColourMap:
    """A table from the RGB of a clip to the RGB of BT.709, which libav applies to its pictures ("haldclut").

    `peak_nits` is the brightness of the clip's brightest pictures, for clips in PQ. The pictures have
    `width` x `height` pixels.
    """

    def __init__(self, tags: ColourTags, peak_nits: float, width: int, height: int) -> None:
        self._graph = Graph()
        table = VideoFrame.from_ndarray(colour_table(tags, peak_nits), format="rgb48le")
        pictures, clut = (
            self._graph.add(
                "buffer", video_size=f"{w}x{h}", pix_fmt="rgb48le", time_base="1/25", pixel_aspect="1/1",
                colorspace="gbr", range="pc",
            )
            for w, h in ((width, height), (table.width, table.height))
        )  # fmt: skip
        mapping = self._graph.add("haldclut", "clut=first")
        pictures.link_to(mapping, 0, 0)
        clut.link_to(mapping, 0, 1)
        levels = self._graph.add("colorlevels", ":".join(f"{c}imin={1 / 3}:{c}imax={2 / 3}" for c in "rgb"))
        self._graph.link_nodes(
            mapping,
            levels,
            self._graph.add("scale"),
            self._graph.add("format", "rgb24"),
            self._graph.add("buffersink"),
        )
        self._graph.configure()
        clut.push(_prepared(table, 0))
        clut.push(None)
        self._pictures = pictures
        self._count = 0

    def apply(self, picture: VideoFrame) -> VideoFrame:
        """Return the picture ("rgb48le") as "rgb24"."""
        self._pictures.push(_prepared(picture, self._count))
        self._count += 1
        mapped = self._graph.vpull()
        mapped.pts = picture.pts
        return mapped


def colour_table(tags: ColourTags, peak_nits: float) -> NDArray[np.uint16]:
    """Return the table as a picture (512,512,3) whose pixels count up red first, then green, then blue.

    It goes from -1 to 2, so that libav also interpolates well where the codes leave 0..1.
    """
    axis = np.linspace(0, 1, _GRID)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    light = to_light(np.stack([red, green, blue], axis=-1), tags.transfer)
    if tags.transfer in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        peak = HLG_NITS if tags.transfer == ColorTrc.ARIB_STD_B67 else peak_nits
        light = map_tones(light, max(peak, WHITE_NITS))
    codes = to_codes(light @ to_bt709(tags.primaries).T)
    return ((codes.clip(-1, 2) + 1) / 3 * 65535 + 0.5).astype(np.uint16).reshape(LEVEL**3, LEVEL**3, 3)


def _prepared(picture: VideoFrame, number: int) -> VideoFrame:
    """Return the picture with the time and the tags that the filters expect."""
    picture.pts, picture.time_base = number, Fraction(1, 25)
    picture.colorspace, picture.color_range = 0, 2
    return picture
