"""Probes of uploaded clips and images: they refuse files that could never become part of a job."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from worker.jobs.errors import InvalidInput
from worker.jobs.limits import DEFAULTS, Limits
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.media.probe.codecs import DECODERS, is_accepted
from worker.jobs.media.probe.duration import stated_duration_s

#: The smallest width and height of a clip in pixels.
MIN_SIDE = 16

#: The formats that are accepted, by libav's names. None of them refers to other files, as playlists do. They
#: are those of phones, browsers, recorders (MPEG-TS), Windows (ASF, with WMV), cameras and editors (MXF), and
#: the ones with which programs hand pictures to each other (Y4M, APNG).
CLIPS = "mov,matroska,webm,avi,asf,mpegts,mpeg,mxf,flv,ogg,gif,apng,yuv4mpegpipe"
IMAGES = "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,gif"
#: The MP4 brands of still images (HEIF and AVIF).
_IMAGE_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}

#: What a client can do with a file that is refused.
WAY_OUT = "If it is one, convert it, for example with `ffmpeg -i CLIP CONVERTED.mp4`."
#: libav reads still WebP images only.
_WEBP_WAY_OUT = (
    "If it is animated, convert it, for example with `magick CLIP.webp CLIP.gif`, as ffmpeg cannot."
)

#: The most streams that are neither pictures, sound nor subtitles: fonts, covers and data. Nothing decodes or
#: copies them, so they do not count. But each one takes memory, and a small file can have very many.
MAX_OTHER_STREAMS = 240

#: The most packets, and bytes of packets, that are read to find the first frames of a clip. Packets of sound
#: or subtitles may precede them, and a file of a few megabytes can have millions of those.
MAX_PACKETS = 10_000
MAX_PACKET_BYTES = 64 * 2**20

#: Accept titles that are not UTF-8. PyAV 19 and later do so by default.
_ANY_TITLE: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__ < "19" else {}


def probe(path: Path, limits: Limits = DEFAULTS) -> ClipInfo:
    """Return the properties of the clip at `path`, whatever its name is.

    A truncated MP4 or MOV file is accepted, because its job fails later. If its index is missing, all fields
    are None.

    Raises `InvalidInput("file", ...)` if the file cannot be a clip. Raises MemoryError if libav needs more
    memory than the process may have, which can be gigabytes whatever the limits are.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise InvalidInput("file", "The file is empty.")
    is_mp4 = head[4:8] == b"ftyp"
    if is_mp4 and head[8:12] in _IMAGE_BRANDS:
        raise InvalidInput("file", "The file is a still image, not a video.")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        raise InvalidInput("file", f"The file is WebP, which is not read here. {_WEBP_WAY_OUT}")
    try:
        with open_media(path, CLIPS, limits) as container:
            return _check_clip(container, limits)
    except MemoryError:  # libav's MemoryError is an FFmpegError too
        raise
    except av.FFmpegError as error:
        if is_mp4 and int.from_bytes(head[:4]) <= path.stat().st_size:
            return ClipInfo()
        raise InvalidInput(
            "file", f"The file is not a video in a format that is read here. {WAY_OUT}"
        ) from error


def probe_image(path: Path, limits: Limits = DEFAULTS) -> tuple[int, int]:
    """Return the width and height in pixels of the image (PNG, JPEG, WebP, BMP or GIF) at `path`.

    Raises `InvalidInput("file", ...)` if the file is not such an image, or is too large.
    """
    try:
        with open_media(path, IMAGES, limits) as container:
            image = container.streams.video[0]
            width, height = image.width, image.height
    except MemoryError:
        raise
    except (av.FFmpegError, IndexError) as error:
        raise InvalidInput("file", "The file is not an image in a format that is read here.") from error
    if not 0 < width * height <= limits.max_pixels:
        raise InvalidInput("file", f"The image has more than {limits.max_pixels} pixels.")
    try:  # decode the image only after its size is known to be acceptable
        with open_media(path, IMAGES, limits) as container:
            # Each thread of a decoder would take address space, which the probe has little of.
            container.streams.video[0].codec_context.thread_count = 1
            next(container.decode(video=0))
    except (av.FFmpegError, StopIteration):
        raise InvalidInput("file", "The image cannot be decoded.") from None
    return width, height


def open_media(
    path: Path, formats: str, limits: Limits | None = None, hwaccel: HWAccel | None = None
) -> InputContainer:
    """Open the file as one of `formats`, but no other file that it refers to. Raises `av.FFmpegError`.

    To describe the streams, libav uses decoders of `DECODERS` only. A caller that decodes must check the
    stream's decoder itself.

    A file may have one stream more than `limits` allow, so that the caller can report it, and
    `MAX_OTHER_STREAMS` others. A file with still more streams cannot be opened.

    `hwaccel` is the device that decodes, if it is not the CPU.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": formats, "codec_whitelist": DECODERS}
    if limits:
        options["max_streams"] = str(limits.max_streams + 1 + MAX_OTHER_STREAMS)
        # libav decodes frames to learn about the streams. This limits their size.
        options["max_pixels"] = str(limits.max_pixels)
    container: InputContainer = av.open(path, options=options, hwaccel=hwaccel, **_ANY_TITLE)
    return container


def count_streams(container: InputContainer) -> int:
    """Return the number of streams of pictures, sound and subtitles. A cover is no stream of pictures."""
    return sum(
        stream.type in ("video", "audio", "subtitle") and not stream.disposition & Disposition.attached_pic
        for stream in container.streams
    )


def _check_clip(container: InputContainer, limits: Limits) -> ClipInfo:
    """Return the properties of the clip. Raises `InvalidInput` if they are not acceptable."""
    if count_streams(container) > limits.max_streams:
        raise InvalidInput("file", f"The file has more than {limits.max_streams} streams.")
    videos = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    stream = next(videos, None)
    if stream is None:
        raise InvalidInput("file", "The file has no video stream.")
    may_be_still = container.format.name in ("gif", "apng")
    packets = _count_packets(container, stream, 2 if may_be_still else 1)
    if not packets and not stream.frames:
        raise InvalidInput("file", f"The clip has no frames, or none in its first {MAX_PACKETS} packets.")
    if may_be_still and packets < 2:
        raise InvalidInput("file", "The file is a still image, not a video.")
    name = getattr(stream.codec_context, "name", None)  # without a decoder there is no context
    if not is_accepted(name):
        raise InvalidInput("file", f"The clip's video codec is not one that is read here. {WAY_OUT}")
    _check_size(stream.width, stream.height, limits.max_pixels)
    duration_s = stated_duration_s(container, stream)
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


def _count_packets(container: InputContainer, stream: VideoStream, enough: int) -> int:
    """Return the number of packets of `stream` at the start of the file, at most `enough`.

    Packets behind the first `MAX_PACKETS` of all streams, or `MAX_PACKET_BYTES`, are not read.
    """
    found = read_bytes = 0
    for packet in islice(container.demux(), MAX_PACKETS):
        read_bytes += packet.size
        found += packet.stream_index == stream.index and packet.size > 0
        if found == enough or read_bytes > MAX_PACKET_BYTES:
            break
    return found


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width:  # libav refused the size
        raise InvalidInput("file", f"The clip has no size, or more than {max_pixels} pixels.")
    if min(width, height) < MIN_SIDE:
        raise InvalidInput(
            "file", f"The clip is {width}x{height}: both sides must have {MIN_SIDE} pixels at least."
        )
    if width * height > max_pixels:
        raise InvalidInput("file", f"The clip is {width}x{height}: more than {max_pixels} pixels.")
