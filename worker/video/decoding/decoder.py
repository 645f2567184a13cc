"""Decodes a clip frame by frame and refuses a clip that is cut off, too damaged or too large."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from worker.jobs.errors import BadVideo
from worker.jobs.limits import DEFAULTS, Limits
from worker.jobs.media.probe.probe import CLIPS
from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.plane_reader import PlaneReader, form_of
from worker.video.colour.rgb_converter import RgbConverter
from worker.video.decoding.clip_file import check_complete, is_mp4, open_clip_file
from worker.video.decoding.continuity import continuous_packets
from worker.video.decoding.damage import KEEP_REST, DamageFound, TolerantDecoder
from worker.video.decoding.deinterlacer import deinterlace
from worker.video.decoding.frame_times import FrameTimes
from worker.video.decoding.header import ClipEnd, ClipHeader, tick_length
from worker.video.decoding.options import READ_DEFAULTS, ReadOptions
from worker.video.decoding.orientation import Orientation

__all__ = ["ClipDecoder"]


class ClipDecoder:
    """Decoder of one clip: its header, and its frames in display order.

    The frames have the times that `FrameTimes` gives them.

    The constructor decodes the first frame. `formats` are libav's names of the container formats to accept,
    separated by commas.

    The constructor and `frames` raise `BadVideo`, with one sentence as message, if the file is not a video,
    exceeds `limits` (whatever its header says), is cut off or is damaged too much (see `TolerantDecoder`).
    """

    header: ClipHeader
    frames: Iterator[VideoFrame]
    #: Whether no frame so far is marked as interlaced.
    progressive: bool = True

    def __init__(
        self,
        path: Path,
        limits: Limits = DEFAULTS,
        options: ReadOptions = READ_DEFAULTS,
        *,
        formats: str = CLIPS,
    ) -> None:
        self._path = path
        self._limits = limits
        self._formats = formats
        self._open(threaded=True)
        try:
            frames = deinterlace(self._decode()) if options.deinterlace else self._decode()
            first = next(frames, None)
            if first is None:
                raise BadVideo("The clip has no frames.")
        except BaseException:
            self.close()
            raise
        self._orientation = Orientation.from_frame(first)
        scale = options.odd_size == "scale"
        is_upright = self._orientation == Orientation()
        form = form_of(first) if options.planes and is_upright else PixelForm.RGB
        self._planes = PlaneReader(first, form) if form is not PixelForm.RGB else None
        self._to_rgb = RgbConverter(*(side + side % 2 * scale for side in (first.width, first.height)))
        self.header = ClipHeader.from_first_frame(self._stream, first, self._orientation, form)
        self.frames = chain([first], frames)

    @property
    def end(self) -> ClipEnd:
        """The facts about the clip's end, if the last frame was decoded."""
        return ClipEnd(self._times.end, self.concealed)

    @property
    def concealed(self) -> int:
        """The number of frames so far that were damaged or lost."""
        return self._decoder.concealed

    def close(self) -> None:
        """Close the file. `frames` must not be used after this."""
        self._container.close()

    def pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the frame's upright pixels in the form that the header states, valid until the next call.

        Raises `BadVideo` if the frame's colours cannot be converted.
        """
        if self._planes is None:
            return self.upright(frame)
        if (planes := self._planes.read(frame)) is not None:
            return planes
        return self._planes.convert(self.upright(frame))

    def upright(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return an upright view (H,W,3) uint8 RGB of the frame, in the size that the header states.

        Raises `BadVideo` if the frame's colours cannot be converted.
        """
        picture = self._orientation.upright(self._to_rgb.convert(frame))
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        return picture

    def _open(self, *, threaded: bool) -> None:
        """Open the file to read it from its beginning."""
        self._container, self._stream = open_clip_file(self._path, self._limits, self._formats)
        try:
            check_complete(self._container, self._path)
            self._decoder = TolerantDecoder(self._stream, self._limits.max_pixels, threaded=threaded)
            self._times = FrameTimes(self._stream)
        except BaseException:
            self.close()
            raise

    def _decode(self) -> Iterator[VideoFrame]:
        """Yield all frames. If the clip is damaged, the rest of them comes from a second reading."""
        shown = 0
        try:
            for frame in self._read():
                shown += 1
                yield frame
        except DamageFound:
            self.close()
            self._open(threaded=False)
            yield from islice(self._read(), shown, None)

    def _read(self) -> Iterator[VideoFrame]:
        bounds = _Bounds(self._limits, tick_length(self._stream))
        try:
            for packet in continuous_packets(self._container, self._stream):
                if packet.stream.index != self._stream.index:
                    continue
                if packet.is_corrupt and is_mp4(self._container):  # libav could not read all of it
                    raise BadVideo(f"The clip is cut off. {KEEP_REST}")
                frames = self._decoder.decode(packet)
                if frames is None:
                    continue
                self._times.add(packet)
                for frame in frames:
                    self.progressive &= not frame.interlaced_frame
                    frame.pts = self._times.place(frame)
                    bounds.check_frame(frame.pts, self._times.end)
                    yield frame
        except MemoryError:  # libav's MemoryError is an FFmpegError too
            raise
        except av.FFmpegError as error:
            raise BadVideo(f"The clip cannot be read to its end ({error.strerror}).") from error
        self._decoder.check_end()
        check_complete(self._container, self._path)


class _Bounds:
    """Limits on the number of frames and on the duration, checked frame by frame."""

    def __init__(self, limits: Limits, time_base: Fraction) -> None:
        self._limits = limits
        self._latest = limits.max_duration_s / float(time_base)
        self._frames = 0
        self._start = 0

    def check_frame(self, pts: int, end: int) -> None:
        """Count the frame displayed from `pts` to `end`, in ticks. Raise `BadVideo` if it exceeds a limit."""
        self._start = pts if self._frames == 0 else self._start
        self._frames += 1
        if self._frames > self._limits.max_frames:
            raise BadVideo(f"The clip has more than {self._limits.max_frames} frames.")
        if end - self._start > self._latest:
            raise BadVideo(f"The clip is longer than {self._limits.max_duration_s:g} seconds.")
