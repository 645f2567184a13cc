"""Decodes packets of a damaged clip, and says how much damage is too much."""

from __future__ import annotations

import av
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from worker.jobs.errors import BadVideo

__all__ = ["KEEP_REST", "MAX_CONCEALED", "MAX_CONCEALED_SHARE", "DamageFound", "TolerantDecoder"]

#: So many frames of a clip may be damaged, and besides one of so many that were decoded.
MAX_CONCEALED, MAX_CONCEALED_SHARE = 10, 10
#: What a client can do with a clip that is refused because of its damage.
KEEP_REST = "To send what can be shown of it, convert it, for example with `ffmpeg -i CLIP CONVERTED.mp4`."
#: Decoders that mark the frames that they could not restore. Of others, all frames of damaged packets count.
_MARKING = {"h264", "mpeg2video", "mpeg1video"}
#: The formats of recorders, in which damage is likely. With several threads, libav's decoder of H.264 does
#: not always notice damage in time. One thread still decodes faster than the result is encoded.
_RECORDINGS = {"mpegts", "mpeg"}


class DamageFound(Exception):
    """The clip is damaged, so it must be decoded by one thread.

    What several threads make of damage depends on chance, but a job's next attempt must get the same frames.
    """


class TolerantDecoder:
    """Decoder of one stream that goes on after damage. It has several threads if it is `threaded`.

    `max_pixels` are allowed in a frame.
    """

    def __init__(self, stream: VideoStream, max_pixels: int, *, threaded: bool) -> None:
        # libav refuses a later frame that is larger than the header says before it allocates the frame.
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        codec = stream.codec_context.name
        self._threaded = threaded and not (codec == "h264" and stream.container.format.name in _RECORDINGS)
        stream.thread_type, stream.codec_context.thread_count = "AUTO", 0 if self._threaded else 1
        self._stream = stream
        self._max_pixels = max_pixels
        self._marks = codec in _MARKING
        self._frames = 0
        self._begun = False
        #: The times of damaged frames, as their packets state them.
        self._damaged = set[object]()
        self._error: av.FFmpegError | None = None

    @property
    def concealed(self) -> int:
        """The number of frames so far that are damaged.

        The decoder has filled their gaps from other frames, or has no frame for them, so that the frame
        before is displayed longer. Packets before the first key frame do not count, because a recording may
        begin between two of them.
        """
        return len(self._damaged)

    def decode(self, packet: Packet[Stream]) -> list[VideoFrame] | None:
        """Return the frames that are ready after this packet, or None if it cannot be decoded.

        Raises `BadVideo` if the clip is too damaged or has a frame of too many pixels, and `DamageFound`.
        """
        self._begun = self._begun or packet.is_keyframe or bool(self._frames)
        frames = self._frames_of(packet)
        if frames is None and self._begun:
            self._add_damage(packet.pts)
        self._frames += len(frames or ())
        for frame in frames or ():
            if frame.is_corrupt:
                self._add_damage(frame.pts)
        if packet.is_corrupt and self._begun and (self._threaded or not self._marks):
            self._add_damage(packet.pts)
        return frames

    def check_end(self) -> None:
        """Raise `BadVideo` if there was no frame."""
        if self._error and not self._frames:
            raise BadVideo(f"The clip cannot be decoded ({self._error.strerror}).") from self._error

    def _frames_of(self, packet: Packet[Stream]) -> list[VideoFrame] | None:
        try:
            return self._stream.decode(packet)
        except MemoryError:  # libav's MemoryError is an FFmpegError too
            raise
        except av.FFmpegError as error:
            if not self._stream.codec_context.width:  # libav refused the frame's size
                raise BadVideo(f"The clip has a frame of more than {self._max_pixels} pixels.") from error
            self._error = error
            return None

    def _add_damage(self, pts: int | None) -> None:
        if self._threaded:
            raise DamageFound
        self._damaged.add(object() if pts is None else pts)
        if self.concealed > MAX_CONCEALED + self._frames // MAX_CONCEALED_SHARE:
            raise BadVideo(
                f"The clip is damaged: {self.concealed} of its first {self._frames} frames are incomplete or "
                f"missing. {KEEP_REST}"
            ) from self._error
