"""Finds out what a packet of a clip contains without decoding it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from av.video.stream import VideoStream

__all__ = ["PacketContent", "ReadContent", "content_reader"]

#: Types of the units (NAL) of H.264 and HEVC: units of pictures, those of pictures at which a decoder can
#: begin (IDR, and CRA of HEVC), and parameter sets.
_H264_PICTURES, _H264_IDR, _H264_SEI, _H264_PARAMETERS = {1, 5}, 5, 6, {7, 8, 13, 15}
_HEVC_PICTURES, _HEVC_RANDOM_ACCESS, _HEVC_PARAMETERS = range(32), {19, 20, 21}, {32, 33, 34}
#: Types of HEVC behind which a decoder leaves pictures out within a clip: BLA, and ends of sequences.
_HEVC_CUTS = {16, 17, 18, 36, 37}
#: The type of a message (SEI) of H.264, and types of units of AV1.
_RECOVERY_POINT, _AV1_SEQUENCE, _AV1_DELIMITER = 6, 1, 2
#: The most units of a packet, and bytes of a message, that are looked at. A hostile file may have millions.
_MAX_UNITS, _MAX_MESSAGE_BYTES = 2000, 4096


@dataclass(frozen=True, slots=True)
class PacketContent:
    """The content of a packet, which is one frame that is shown.

    If the packet is an `access_point`, a decoder that begins here shows all frames whose times are not before
    the packet's, as if it had begun earlier. It needs the parameter sets of the packet, besides those of
    the stream.
    """

    access_point: bool
    parameters: frozenset[bytes] = frozenset()


#: A function of a packet's bytes, and of whether the file marks the packet as a key frame. It returns None if
#: the packet is not one frame that is shown, or may be another number of frames.
ReadContent = Callable[[memoryview, bool], PacketContent | None]


def content_reader(stream: VideoStream) -> ReadContent | None:
    """Return the function for the stream's packets, or None if a codec's packets do not tell enough."""
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata or b""
    # Otherwise the units have start codes, which MP4 and Matroska do not allow.
    has_lengths = len(extradata) > 22 and extradata[0] == 1 if codec == "hevc" else extradata[:1] == b"\1"
    if codec == "h264" and has_lengths:
        return partial(_h264, (extradata[4] & 3) + 1, extradata)
    if codec == "hevc" and has_lengths:
        return partial(_hevc, (extradata[21] & 3) + 1, extradata)
    if codec in _READERS:
        return _READERS[codec]
    return _whole if stream.codec.intra_only else None


def _h264(length_size: int, extradata: bytes, data: memoryview, is_key: bool) -> PacketContent | None:
    units = [(unit[0] & 31, unit) for unit in islice(_units(data, length_size), _MAX_UNITS)]
    kinds = {kind for kind, _ in units}
    if kinds.isdisjoint(_H264_PICTURES) or len(units) == _MAX_UNITS:
        return None
    messages = (unit for kind, unit in units if kind == _H264_SEI)
    begins = _H264_IDR in kinds or (is_key and any(map(_is_recovery_point, messages)))
    parameters = (bytes(unit) for kind, unit in units if kind in _H264_PARAMETERS)
    return PacketContent(is_key and begins, _unknown(parameters, extradata))


def _hevc(length_size: int, extradata: bytes, data: memoryview, is_key: bool) -> PacketContent | None:
    found = list(islice(_units(data, length_size), _MAX_UNITS))
    units = [((unit[0] >> 1) & 63, unit) for unit in found if not _layer(unit)]
    kinds = {kind for kind, _ in units}
    is_picture = not kinds.isdisjoint(_HEVC_PICTURES) and kinds.isdisjoint(_HEVC_CUTS)
    if not is_picture or len(found) == _MAX_UNITS:
        return None
    begins = not kinds.isdisjoint(_HEVC_RANDOM_ACCESS)
    parameters = (bytes(unit) for kind, unit in units if kind in _HEVC_PARAMETERS)
    return PacketContent(is_key and begins, _unknown(parameters, extradata))


def _unknown(parameters: Iterable[bytes], extradata: bytes) -> frozenset[bytes]:
    """Return the parameter sets that the stream does not have."""
    return frozenset(parameter for parameter in parameters if parameter not in extradata)


def _layer(unit: memoryview) -> int:
    """Return the layer of a unit of HEVC. libav decodes layer 0 only."""
    return (unit[0] & 1) << 5 | unit[1] >> 3 if len(unit) > 1 else 0


def _units(data: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield the units of a packet, each of which is stored behind its length. Ends at a false length."""
    place = 0
    while place + length_size < len(data):
        begin = place + length_size
        place = begin + int.from_bytes(data[place:begin])
        if begin == place or place > len(data):
            return
        yield data[begin:place]


def _is_recovery_point(unit: memoryview) -> bool:
    """Return whether the SEI says that frames from here on are exact, with no frame that is not yet exact.

    x264 also marks where an intra refresh begins (`--intra-refresh`), which takes some frames to be exact.
    """
    message = bytes(unit[1:_MAX_MESSAGE_BYTES]).replace(b"\0\0\3", b"\0\0")
    place = 0
    while place + 2 < len(message):
        kind, place = _read_number(message, place)
        size, place = _read_number(message, place)
        if kind == _RECOVERY_POINT and place < len(message):
            # recovery_frame_cnt is 0 if the first bit is set. exact_match_flag and broken_link_flag follow.
            return message[place] & 0b1110_0000 == 0b1100_0000
        place += size
    return False


def _read_number(message: bytes, place: int) -> tuple[int, int]:
    """Return a number of a SEI, which is a sum of bytes, and the place behind it."""
    number = 0
    while place < len(message):
        number += message[place]
        place += 1
        if message[place - 1] != 0xFF:
            break
    return number, place


def _vp8(data: memoryview, is_key: bool) -> PacketContent | None:
    is_shown = data[0] & 0b1_0000
    return PacketContent(is_key and not data[0] & 1) if is_shown else None


def _vp9(data: memoryview, is_key: bool) -> PacketContent | None:
    frames = [_vp9_flags(frame) for frame in _vp9_frames(data)]
    shown = sum(is_shown for _, is_shown in frames)
    return PacketContent(is_key and frames[0][0]) if shown == 1 else None


def _vp9_frames(data: memoryview) -> Iterator[memoryview]:
    """Yield the frames of a packet. Several have an index behind them."""
    count, size = (data[-1] & 7) + 1, ((data[-1] >> 3) & 3) + 1
    index = data[-2 - count * size :]
    if data[-1] & 0b1110_0000 != 0b1100_0000 or len(index) < 2 + count * size or index[0] != data[-1]:
        yield data
        return
    place = 0
    for begin in range(1, 1 + count * size, size):
        length = int.from_bytes(index[begin : begin + size], "little")
        if length:
            yield data[place : place + length]
        place += length


def _vp9_flags(frame: memoryview) -> tuple[bool, bool]:
    """Return whether a frame is a key frame, and whether it is shown."""
    bits = int.from_bytes(bytes(frame[:2]).ljust(2, b"\0"))
    is_highest_profile = (bits >> 12) & 0b11 == 0b11  # it has a reserved bit
    shows_other, is_inter, is_shown = (bits >> 11 - is_highest_profile - place & 1 for place in range(3))
    return not (shows_other or is_inter), bool(shows_other or is_shown)


def _av1(data: memoryview, is_key: bool) -> PacketContent:
    """Take a packet for a key frame only if a sequence header is its first unit, or the one after that."""
    kinds = [(byte >> 3) & 15 for byte in (data[0], data[min(2, len(data) - 1)])]
    begins = kinds[0] == _AV1_SEQUENCE or kinds == [_AV1_DELIMITER, _AV1_SEQUENCE]
    return PacketContent(is_key and begins)


def _whole(_: memoryview, is_key: bool) -> PacketContent:
    return PacketContent(is_key)


_READERS: dict[str, ReadContent] = {"vp8": _vp8, "vp9": _vp9, "libdav1d": _av1}
