"""The display times of a clip's frames."""

from __future__ import annotations

from collections import deque

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from worker.video.decoding.header import frame_rate, frame_ticks, tick_length

__all__ = ["FrameTimes"]


class FrameTimes:
    """The display times of the frames of `stream`, in ticks. They rise strictly, as an encoder needs it.

    - A frame is displayed at its own time (pts). If that does not rise, it gets the tick after its
      predecessor's.
    - AVI stores no display times, and what libav states in their place is wrong if frames are reordered
      (B-frames). So the n-th frame displayed gets the n-th decoding time. ASF has no display times either,
      but its sound is as late as a decoder's output. So a frame is displayed when the decoder returns it.
    - A frame without any time follows its predecessor after the predecessor's duration.
    - MP4 states durations in decoding order. So only their sum says how long the last frame is displayed, or
      the duration of the track, if that is shorter.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._step = frame_ticks(frame_rate(stream), tick_length(stream))
        self._ignores_stated = stream.container.format.name == "avi" and stream.codec.reorder
        self._is_shown_at_output = stream.container.format.name == "asf" and stream.codec.reorder
        self._decoding_times = deque[int]()
        self._states_sum = "mp4" in stream.container.format.name
        self._duration = stream.duration or 0
        self._first: int | None = None
        self._last: int | None = None
        self._sum = self._end = 0

    @property
    def end(self) -> int:
        """The tick at which the last frame so far is no longer displayed."""
        if not self._states_sum:
            return self._end
        first, last = self._first or 0, self._last or 0
        end = first + self._sum if first + self._sum > last else self._end
        return min(end, first + self._duration) if first + self._duration > last else end

    def skip(self, first: int, last: int, ticks: int) -> None:
        """Begin behind frames whose times are not placed here, from the `first` to the `last` one.

        `ticks` is the sum of the durations of the packets before the next one.
        """
        self._first, self._last, self._sum = first, last, ticks

    def add(self, packet: Packet[Stream]) -> None:
        """Note the decoding time of a packet that is about to be decoded.

        Decoders show nothing of the packets before the first key frame.
        """
        is_shown = packet.is_keyframe or bool(self._decoding_times) or self._last is not None
        if self._ignores_stated and packet.size and packet.dts is not None and is_shown:
            self._decoding_times.append(packet.dts)
        if not packet.is_discard:  # an edit list leaves out the others
            self._sum += packet.duration or 0

    def place(self, frame: VideoFrame) -> int:
        """Return the display time of the next frame."""
        time, last = self._stated(frame), self._last
        if last is None:
            self._first = time = time or 0
            shown_before = 0
        else:
            time = max(self._end if time is None else time, last + 1)
            shown_before = time - last
        self._last, self._end = time, time + (frame.duration or shown_before or self._step)
        return time

    def _stated(self, frame: VideoFrame) -> int | None:
        if self._decoding_times:
            return self._decoding_times.popleft()
        if self._ignores_stated:
            return None
        return frame.dts if frame.pts is None or self._is_shown_at_output else frame.pts
