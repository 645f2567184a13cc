"""Decodes one clip frame by frame, and refuses it where it is cut off, damaged or too large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from worker.jobs.errors import BadVideo
from worker.jobs.limits import DEFAULTS, Limits
from worker.jobs.media.probe import CLIPS, open_media
from worker.video.decoding.orientation import Orientation


@dataclass(frozen=True, slots=True)
class ClipHeader:
    """What holds for every frame of a clip.

    `width` and `height` (pixels) and `aspect` (of a pixel) are those of the upright picture. `time_base` is
    in seconds a tick, `start` in ticks.
    `colorspace`, `color_primaries` and `color_trc` are libav's numbers: how YUV became the RGB we see.
    """

    width: int
    height: int
    orientation: Orientation
    aspect: Fraction | None
    rate: Fraction
    time_base: Fraction
    start: int
    colorspace: int
    color_primaries: int
    color_trc: int

    @property
    def step(self) -> int:
        """How many ticks a frame lasts at `rate`."""
        return _step(self.rate, self.time_base)


class ClipDecoder:
    """The frames of a clip, in order, with strictly rising timestamps (an encoder needs them).

    The constructor decodes the first frame. It and `frames` raise BadVideo, in one sentence, for a file that
    is not a video, passes the limits (whatever its header says), changes its frame size, is cut off or is
    damaged.
    """

    header: ClipHeader
    frames: Iterator[VideoFrame]

    def __init__(self, path: Path, limits: Limits = DEFAULTS) -> None:
        self._path = path
        self._limits = limits
        self._container = _open(path, limits)
        try:
            if len(self._container.streams) > limits.max_streams:
                raise BadVideo(f"The clip has more than {limits.max_streams} streams.")
            self._stream = _video_stream(self._container)
            if self._stream.width * self._stream.height > limits.max_pixels:
                raise BadVideo(f"The clip has more than {limits.max_pixels} pixels a frame.")
            # A later frame that is larger than the header says is refused before there is memory for it.
            self._stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
            self._check_complete()
            decoded = self._decode()
            first = next(decoded, None)
            if first is None:
                raise BadVideo("The clip has no frames.")
        except BaseException:
            self.close()
            raise
        self.header = _header(self._stream, first)
        self.frames = chain([first], decoded)

    def close(self) -> None:
        """Close the file; no frame may be asked for after that."""
        self._container.close()

    def _decode(self) -> Iterator[VideoFrame]:
        step = _step(_rate(self._stream), _time_base(self._stream))
        size: tuple[int, int] | None = None
        last: int | None = None
        bounds = _Bounds(self._limits, _time_base(self._stream))
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    raise BadVideo("The clip is cut off or damaged.")
                for frame in packet.decode():
                    size = size or (frame.width, frame.height)
                    if size != (frame.width, frame.height):
                        raise BadVideo("The clip changes its frame size on the way.")
                    last = frame.pts = _rising(frame, last, step)
                    bounds.take(last)
                    yield frame
        except MemoryError:  # libav's is an FFmpegError too
            raise
        except av.FFmpegError as error:
            if not self._stream.codec_context.width:  # libav did not take it
                raise BadVideo(
                    f"The clip has a frame of more than {self._limits.max_pixels} pixels."
                ) from error
            raise BadVideo(f"The clip cannot be decoded to its end ({error.strerror}).") from error
        self._check_complete()

    def _check_complete(self) -> None:
        """Refuse an MP4 whose index points past the file's end (if fragmented, the index grows on the way).

        Unlike the header's number of frames, the index leaves out what an edit list skips; and it shows a cut
        between two samples, which libav takes for the end.
        """
        if "mp4" not in self._container.format.name:
            return
        size = self._path.stat().st_size
        for stream in self._container.streams:
            if any(entry.pos + entry.size > size for entry in stream.index_entries):
                raise BadVideo("The clip is cut off: its index names data past the end of the file.")


class _Bounds:
    """Counts the frames, and refuses the one that is too many or too late."""

    def __init__(self, limits: Limits, time_base: Fraction) -> None:
        self._limits = limits
        self._latest = limits.max_duration_s / float(time_base)
        self._frames = 0
        self._start = 0

    def take(self, pts: int) -> None:
        """Raise BadVideo if the clip ought to have ended before this frame."""
        self._start = pts if self._frames == 0 else self._start
        self._frames += 1
        if self._frames > self._limits.max_frames:
            raise BadVideo(f"The clip has more than {self._limits.max_frames} frames.")
        if pts - self._start > self._latest:
            raise BadVideo(f"The clip is longer than {self._limits.max_duration_s:g} seconds.")


def _open(path: Path, limits: Limits) -> InputContainer:
    try:
        return open_media(path, CLIPS, limits)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise BadVideo(f"The clip cannot be opened ({error.strerror}).") from error


def _video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture, set to decode with several threads."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if not hasattr(stream, "width"):  # what PyAV's streams lack if libav has no decoder for them
                raise BadVideo("The clip's video codec is not one that is read here.")
            stream.thread_type = "AUTO"
            return stream
    raise BadVideo("The clip has no video stream.")


def _header(stream: VideoStream, first: VideoFrame) -> ClipHeader:
    orientation = Orientation.of(first)
    width, height, aspect = first.width, first.height, stream.sample_aspect_ratio
    if orientation.turns % 2:
        width, height, aspect = height, width, 1 / aspect if aspect else None
    return ClipHeader(
        width=width,
        height=height,
        orientation=orientation,
        aspect=aspect,
        rate=_rate(stream),
        time_base=_time_base(stream),
        start=first.pts or 0,
        colorspace=first.colorspace,
        color_primaries=first.color_primaries,
        color_trc=first.color_trc,
    )


def _rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 90_000)


def _step(rate: Fraction, time_base: Fraction) -> int:
    return max(1, round(1 / (rate * time_base)))


def _rising(frame: VideoFrame, last: int | None, step: int) -> int:
    pts = frame.pts if frame.pts is not None else frame.dts
    if last is None:
        return pts or 0
    return last + step if pts is None else max(pts, last + 1)
