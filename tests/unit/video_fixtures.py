"""Clips made to measure, and what is in a clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
TICK = Fraction(1, 12_800)


def gradient(index: int, width: int = 64, height: int = 48) -> Picture:
    """A smooth picture (height,width,3) that tells frame `index` from its neighbours."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 255 * columns / width
    green = 255 * rows / height
    return np.dstack([red, green, np.full_like(red, 8 * index % 256)]).astype(np.uint8)


def make_clip(
    path: Path,
    pictures: Sequence[Picture],
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = TICK,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    **options: str,
) -> Path:
    """Encode `pictures` at `pts` (default: 25 a second); `options` are the muxer's."""
    with av.open(path, "w", options=options) as output:
        stream = output.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = time_base
            frame.pts = round(Fraction(index, 25) / time_base) if pts is None else pts[index]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, *, seconds: float = 1e9, **options: str) -> Path:
    """The same streams in another container, or cut short."""
    with av.open(source) as old, av.open(target, "w", options=options) as new:
        copies = {s.index: new.add_stream_from_template(s) for s in (*old.streams.video, *old.streams.audio)}
        for packet in old.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    return target


def cut(source: Path, target: Path, size: int | float) -> Path:
    """The first `size` bytes of a file, or that part of them."""
    content = source.read_bytes()
    target.write_bytes(content[: size if isinstance(size, int) else int(len(content) * size)])
    return target


@dataclass(frozen=True)
class Clip:
    times: list[Fraction]
    pictures: list[Picture]
    rate: Fraction | None
    size: tuple[int, int]
    audio: list[tuple[Fraction, bytes]]


def read_clip(path: Path) -> Clip:
    """All of a clip; times in seconds."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [Fraction(frame.pts or 0) * (frame.time_base or 1) for frame in frames]
        pictures = [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in frames]
        size, rate = (stream.width, stream.height), stream.average_rate
    audio: list[tuple[Fraction, bytes]] = []
    with av.open(path) as container:
        for sound in container.streams.audio:
            audio += [
                (Fraction(packet.pts or 0) * packet.time_base, bytes(packet))
                for packet in container.demux(sound)
                if packet.size
            ]
            container.seek(0)
    return Clip(times, pictures, rate, size, audio)
