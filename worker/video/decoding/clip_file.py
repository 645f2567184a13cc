"""Opens the file of a clip, and finds its pictures."""

from __future__ import annotations

from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.jobs.media.probe.codecs import is_accepted
from worker.jobs.media.probe.probe import WAY_OUT, count_streams, open_media
from worker.video.decoding.damage import KEEP_REST

__all__ = ["check_complete", "is_mp4", "open_clip_file", "video_stream"]


def open_clip_file(
    path: Path, limits: Limits, formats: str, hwaccel: HWAccel | None = None
) -> tuple[InputContainer, VideoStream]:
    """Open the file, and return it with the stream of its pictures. Raises `BadVideo`.

    With `hwaccel`, a device decodes the pictures. Raises RuntimeError if it does not know their codec.
    """
    try:
        container = open_media(path, formats, limits, hwaccel)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise BadVideo(
            f"The clip cannot be opened ({error.strerror}). If its end is missing, send the whole file."
        ) from error
    try:
        if count_streams(container) > limits.max_streams:
            raise BadVideo(f"The clip has more than {limits.max_streams} streams.")
        stream = video_stream(container)
        if stream.width * stream.height > limits.max_pixels:
            raise BadVideo(f"The clip has more than {limits.max_pixels} pixels a frame.")
    except BaseException:
        container.close()
        raise
    return container, stream


def video_stream(container: InputContainer) -> VideoStream:
    """Return the first video stream that is not a cover picture. Raises `BadVideo`."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            # PyAV leaves the context out if libav has no decoder for the stream.
            if not is_accepted(getattr(stream.codec_context, "name", None)):
                raise BadVideo(f"The clip's video codec is not supported. {WAY_OUT}")
            return stream
    raise BadVideo("The clip has no video stream.")


def is_mp4(container: InputContainer) -> bool:
    """Return whether the file is an MP4, or of a format like it."""
    return "mp4" in container.format.name


def check_complete(container: InputContainer, path: Path) -> None:
    """Raise `BadVideo` if the index of an MP4 names data past the end of the file.

    The index is a better check than the header's number of frames, because it leaves out frames that an edit
    list skips. It also reveals a cut between two samples, which libav takes for the end of the clip. The
    index of a fragmented MP4 grows while it is read, so the check should also run after the last frame.
    """
    if not is_mp4(container):
        return
    size = path.stat().st_size
    for stream in container.streams:
        if any(entry.pos + entry.size > size for entry in stream.index_entries):
            raise BadVideo(f"The clip is cut off: its index names data past the end of the file. {KEEP_REST}")
