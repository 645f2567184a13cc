"""Writes Matroska files with millions of packets, each of which is one byte of sound (RFC 9559)."""

import struct
from io import BytesIO
from pathlib import Path

import av

from tests.support.video.clips import gradient

__all__ = ["tiny_packets"]

#: Packets in a block, the most that lacing allows, and blocks in a cluster.
LACE, BLOCKS = 256, 400
#: The size of an element whose end is that of the file.
UNKNOWN = b"\x01" + b"\xff" * 7


def tiny_packets(path: Path, packets: int) -> Path:
    """Write a clip of 64x48 pixels that has `packets` packets of sound before its first frame.

    It does not say how many frames a second has, so libav looks for frames to learn this.
    """
    head = _element("1A45DFA3", _element("4282", b"matroska"), _number("4287", 4), _number("4285", 2))
    picture = _element("E0", _number("B0", 64), _number("BA", 48))
    sound = _element("E1", _element("B5", struct.pack(">d", 48_000)), _number("9F", 1), _number("6264", 8))
    tracks = _element("1654AE6B", _track(1, b"V_MJPEG", picture), _track(2, b"A_PCM/INT/LIT", sound))
    with path.open("wb") as file:
        file.write(head + bytes.fromhex("18538067") + UNKNOWN + tracks)
        laced = _block(2, 0x84, bytes([LACE - 1]) + bytes(LACE)) * BLOCKS
        for time in range(-(-packets // (LACE * BLOCKS))):
            file.write(_cluster(time, laced))
        file.write(_cluster(0, _block(1, 0x80, _jpeg())))
    return path


def _jpeg() -> bytes:
    content = BytesIO()
    with av.open(content, "w", format="mjpeg") as output:
        stream = output.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(gradient(0)).reformat(format="yuvj420p")))
        output.mux(stream.encode(None))
    return content.getvalue()


def _element(element_id: str, *content: bytes) -> bytes:
    """Return an EBML element: its id, its size in eight bytes, and its content."""
    body = b"".join(content)
    return bytes.fromhex(element_id) + (len(body) | 1 << 56).to_bytes(8) + body


def _number(element_id: str, value: int) -> bytes:
    return _element(element_id, value.to_bytes(4))


def _track(number: int, codec: bytes, properties: bytes) -> bytes:
    """Return the description of a track. Its type, 1 for video and 2 for sound, is its number."""
    numbers = (_number(element_id, number) for element_id in ("D7", "73C5", "83"))
    return _element("AE", *numbers, _element("86", codec), properties)


def _cluster(time: int, blocks: bytes) -> bytes:
    return _element("1F43B675", _number("E7", time), blocks)


def _block(track: int, flags: int, content: bytes) -> bytes:
    """Return a SimpleBlock: the track's number, the time in the cluster, the flags, and the content."""
    body = bytes([0x80 | track, 0, 0, flags]) + content
    return b"\xa3" + (len(body) | 1 << 28).to_bytes(4) + body
