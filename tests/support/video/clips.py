"""Makes small video clips, reads clips back, and compares them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
TICK = Fraction(1, 12_800)


def gradient(index: int, width: int = 64, height: int = 48) -> Picture:
    """Return a smooth picture (height,width,3) uint8 RGB that differs from that of other indices nearby."""
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
    """Write a clip of `pictures` at `pts` (by default 25 per second). `options` go to the muxer."""
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


def make_clip_with_sound(path: Path, codec: str, video_delay_s: Fraction = Fraction(0)) -> Path:
    """Write a clip of one second: 25 pictures and silence. The pictures begin `video_delay_s` late."""
    with av.open(path, "w") as output:
        video, audio = output.add_stream("libx264", rate=25), output.add_stream(codec, rate=48_000)
        assert isinstance(video, av.VideoStream)
        assert isinstance(audio, av.AudioStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(gradient(index))
            frame.pts, frame.time_base = index + round(video_delay_s * 25), Fraction(1, 25)
            output.mux(video.encode(frame))
        for index in range(48):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), "s16", "stereo")
            sound.pts, sound.sample_rate, sound.time_base = index * 1000, 48_000, Fraction(1, 48_000)
            output.mux(audio.encode(sound))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path


def remux(source: Path, target: Path, *, seconds: float = 1e9, **options: str) -> Path:
    """Copy the streams of `source` to another container, up to `seconds`. `options` go to the muxer."""
    with av.open(source) as old, av.open(target, "w", options=options) as new:
        copies = {s.index: new.add_stream_from_template(s) for s in (*old.streams.video, *old.streams.audio)}
        for packet in old.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    return target


def truncate(source: Path, target: Path, size: int | float) -> Path:
    """Write the first bytes of `source` to `target`: `size` bytes if it is an int, else that fraction."""
    content = source.read_bytes()
    target.write_bytes(content[: size if isinstance(size, int) else int(len(content) * size)])
    return target


@dataclass(frozen=True)
class Clip:
    """The content of a clip. Times are in seconds; `audio` holds the time and the bytes of each packet."""

    times: list[Fraction]
    pictures: list[Picture]
    rate: Fraction | None
    size: tuple[int, int]
    audio: list[tuple[Fraction, bytes]]


def read_clip(path: Path) -> Clip:
    """Decode a whole clip."""
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


def libav_warnings(path: Path) -> list[str]:
    """Decode a whole clip, and return libav's warnings and errors about it."""
    with capture_libav_warnings() as found, av.open(path) as container:
        for stream in container.streams:
            for _ in container.decode(stream):
                pass
            container.seek(0)
    return found


@contextmanager
def capture_libav_warnings() -> Iterator[list[str]]:
    """Collect libav's warnings and errors from all threads. The list is filled when the block ends."""
    found: list[str] = []
    av.logging.set_skip_repeated(
        False
    )  # else libav reports here how often the last test's message was repeated
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture(local=False) as logs:
            yield found
    finally:
        av.logging.set_level(None)
        found += [text for _, _, text in logs]


def is_same_clip(one: Clip, other: Clip) -> bool:
    """Return whether two clips have the same times and sound, and pictures that look the same.

    x264 does not give the same pictures each time under load.
    """
    return (one.times, one.rate, one.size, one.audio) == (
        other.times,
        other.rate,
        other.size,
        other.audio,
    ) and all(
        np.abs(left.astype(int) - right).mean() < 2  # neighbours of `gradient` differ by 2.7
        for left, right in zip(one.pictures, other.pictures, strict=True)
    )


def save_png(path: Path, picture: Picture) -> Path:
    """Write `picture` (height,width,3) uint8 RGB as a PNG file."""
    av.VideoFrame.from_ndarray(picture).save(path)
    return path
