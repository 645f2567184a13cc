"""Looks at uploaded clips and images before they are accepted, and refuses what could never become a job."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from worker.jobs.errors import InvalidInput
from worker.jobs.limits import DEFAULTS, Limits

MIN_SIDE = 16

#: libav's names of what is let in: nothing that leads to other files, as playlists do
CLIPS = "mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,gif"
IMAGES = "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,gif"
#: MP4 brands of still images (HEIF and AVIF)
_IMAGE_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}

#: Titles need not be UTF-8; from PyAV 19 on that is so without asking.
_ANY_TITLE: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__ < "19" else {}


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """What the file says of itself; None is not known. Sizes in pixels as stored, `rate` in frames/s."""

    width: int | None = None
    height: int | None = None
    frames: int | None = None
    rate: Fraction | None = None
    duration_s: float | None = None
    has_audio: bool = False
    codec: str | None = None


def probe(path: Path, limits: Limits = DEFAULTS) -> ClipInfo:
    """What the clip at `path` is, whatever it is called; InvalidInput("file", ...) if it cannot be one.

    An MP4 or MOV file that is cut off is let through, as its job fails later: with all fields None if the cut
    took the index. Raises MemoryError where the process may not have as much as libav asks for, which can be
    gigabytes whatever the limits are.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise InvalidInput("file", "The file is empty.")
    is_mp4 = head[4:8] == b"ftyp"
    if is_mp4 and head[8:12] in _IMAGE_BRANDS:
        raise InvalidInput("file", "The file is a still image, not a video.")
    try:
        with open_media(path, CLIPS, limits) as container:
            return _inspect(container, limits)
    except MemoryError:  # libav's is an FFmpegError too
        raise
    except av.FFmpegError as error:
        if is_mp4 and int.from_bytes(head[:4]) <= path.stat().st_size:
            return ClipInfo()
        raise InvalidInput("file", "The file is not a video in a format that is read here.") from error


def probe_image(path: Path, limits: Limits = DEFAULTS) -> tuple[int, int]:
    """Width and height of the image (PNG, JPEG, WebP, BMP, GIF) at `path`; InvalidInput("background")."""
    try:
        with open_media(path, IMAGES, limits) as container:
            image = container.streams.video[0]
            width, height = image.width, image.height
    except MemoryError:
        raise
    except (av.FFmpegError, IndexError) as error:
        raise InvalidInput(
            "background", "The background is not an image in a format that is read here."
        ) from error
    if not 0 < width * height <= limits.max_pixels:
        raise InvalidInput("background", f"The background has more than {limits.max_pixels} pixels.")
    try:  # only now that it is known to be small enough
        with open_media(path, IMAGES, limits) as container:
            next(container.decode(video=0))
    except (av.FFmpegError, StopIteration):
        raise InvalidInput("background", "the image cannot be decoded") from None
    return width, height


def open_media(path: Path, formats: str, limits: Limits | None = None) -> InputContainer:
    """The file, as one of `formats`, and nothing that it points to. Raises `av.FFmpegError`.

    It may have one stream more than `limits` say, for the caller to see; one with more cannot be opened.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    if limits:
        options["max_streams"] = str(limits.max_streams + 1)
        options["max_pixels"] = str(limits.max_pixels)  # of what is decoded to learn about the streams
    container: InputContainer = av.open(path, options=options, **_ANY_TITLE)
    return container


def _inspect(container: InputContainer, limits: Limits) -> ClipInfo:
    if len(container.streams) > limits.max_streams:
        raise InvalidInput("file", f"The file has more than {limits.max_streams} streams.")
    videos = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    stream = next(videos, None)
    if stream is None:
        raise InvalidInput("file", "The file has no video stream.")
    packets = list(islice((packet for packet in container.demux(stream) if packet.size), 2))
    if not packets and not stream.frames:
        raise InvalidInput("file", "The clip has no frames.")
    if container.format.name == "gif" and len(packets) < 2:
        raise InvalidInput("file", "The file is a still image, not a video.")
    name = getattr(stream.codec_context, "name", None)  # libav has no decoder for it: no context
    if name is None:
        raise InvalidInput("file", "The clip's video codec is not one that is read here.")
    _check_size(stream.width, stream.height, limits.max_pixels)
    duration_s = _duration_s(container, stream)
    if stream.frames > limits.max_frames:
        raise InvalidInput("file", f"The clip has {stream.frames} frames: more than {limits.max_frames}.")
    if duration_s is not None and duration_s > limits.max_duration_s:
        raise InvalidInput("file", f"The clip is longer than {limits.max_duration_s:g} seconds.")
    return ClipInfo(
        width=stream.width,
        height=stream.height,
        frames=stream.frames or None,
        rate=stream.average_rate,
        duration_s=duration_s,
        has_audio=bool(container.streams.audio),
        codec=name,
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width:  # libav did not take it
        raise InvalidInput("file", f"The clip has no size, or more than {max_pixels} pixels.")
    if min(width, height) < MIN_SIDE:
        raise InvalidInput(
            "file", f"The clip is {width}x{height}: both sides must have {MIN_SIDE} pixels at least."
        )
    if width % 2 or height % 2:
        raise InvalidInput("file", f"The clip is {width}x{height}: width and height must be even.")
    if width * height > max_pixels:
        raise InvalidInput("file", f"The clip is {width}x{height}: more than {max_pixels} pixels.")


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration is not None else None
