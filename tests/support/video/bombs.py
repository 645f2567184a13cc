"""Writes small files that cost much memory or time, or leak secrets, if they are decoded without limits."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av

from tests.support.video.clips import gradient, make_clip


def raw_mp4(path: Path, samples: int, tracks: int = 1, width: int = 64) -> Path:
    """Write an MP4 file whose tracks claim `samples` frames of one byte each. It holds 64 bytes of data.

    Each frame is `width` x 48 pixels according to the header.
    """
    picture = bytes(16) + struct.pack(">HH", width, 48) + struct.pack(">IIIH", 72 << 16, 72 << 16, 0, 1)
    entry = _box(b"raw ", bytes(7) + b"\1", picture, bytes(32), struct.pack(">Hh", 24, -1))
    table = [
        _box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        _full_box(b"stts", 1, samples, 1),
        _full_box(b"stsc", 1, 1, samples, 1),
        _full_box(b"stsz", 1, samples),
        _full_box(b"stco", 1, 1000),
    ]
    media = _box(
        b"mdia",
        _full_box(b"mdhd", 0, 0, 1000, 1000, 0),
        _box(b"hdlr", bytes(8), b"vide", bytes(13)),
        _box(b"minf", _full_box(b"vmhd", 0, 0), _box(b"stbl", *table)),
    )
    track = _box(b"trak", _box(b"tkhd", struct.pack(">21I", 3, 0, 0, 1, *[0] * 17)), media)
    header = _full_box(b"mvhd", 0, 0, 1000, 1000, *[0] * 20)
    path.write_bytes(_box(b"ftyp", b"isom", bytes(4)) + _box(b"moov", header, track * tracks) + bytes(64))
    return path


def black_png(path: Path, side: int) -> Path:
    """Write a black PNG image of `side` x `side` pixels. Zeros compress very well."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = zlib.compressobj(9)
    packed = b"".join([*(rows.compress(bytes(side * 3 + 1)) for _ in range(side)), rows.flush()])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def tiny_frame_gif(path: Path, side: int, frames: int) -> Path:
    """Write a GIF file with a canvas of `side` x `side` pixels, whose frames are one pixel each."""
    frame = b"\x21\xf9\x04\0\x0a\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    path.write_bytes(head + frame * frames + b";")
    return path


def long_clip(path: Path) -> Path:
    """Write a clip of three frames, each shown for 20 seconds."""
    return make_clip(path, [gradient(i) for i in range(3)], pts=[i * 20 * 12_800 for i in range(3)])


def false_duration(path: Path, seconds: float) -> Path:
    """Write `long_clip` as a Matroska file that claims a duration of `seconds`."""
    content = bytearray(long_clip(path).read_bytes())
    place = content.index(b"\x44\x89\x88") + 3
    content[place : place + 8] = struct.pack(">d", seconds * 1000)
    path.write_bytes(content)
    return path


def resized_midway(path: Path, width: int, height: int) -> Path:
    """Write an MPEG program stream with 10 frames of 64x48 pixels and then 10 of `width` x `height`."""
    parts = [
        make_clip(
            path.with_name(f"{w}.mpg"),
            [gradient(i, w, h) for i in range(10)],
            codec="mpeg2video",
            time_base=Fraction(1, 25),
        )
        for w, h in ((64, 48), (width, height))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def many_streams(path: Path, streams: int) -> Path:
    """Write a clip with `streams` video streams of one frame each."""
    with av.open(path, "w") as output:
        for _ in range(streams):
            stream = output.add_stream("ffv1", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for stream in output.streams.video:
            output.mux([*stream.encode(av.VideoFrame.from_ndarray(gradient(0))), *stream.encode(None)])
    return path


def alias_to(source: Path, target: Path) -> Path:
    """Write the MP4 file `source` to `target` with zeros instead of its frames.

    A QuickTime alias in `target` says that the frames are in `source`, a file of the same folder.
    """
    content = source.read_bytes()
    name = f"/{source.name}".encode()
    alias = bytes(10) + b"\0" + bytes(27) + bytes(12) + b"\0" + bytes(63) + bytes(16)
    alias += struct.pack(">HH", 1, 1) + bytes(
        16
    )  # the path goes up one level from here, and down one to there
    alias += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + struct.pack(">HH", 0xFFFF, 0)
    old = _box(b"dref", bytes(4), struct.pack(">I", 1), _box(b"url ", b"\0\0\0\1"))
    new = _box(b"dref", bytes(4), struct.pack(">I", 1), _box(b"alis", bytes(4), alias))
    place = content.index(old)
    moved = bytearray(content[:place] + new + content[place + len(old) :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):  # the boxes around it have grown
        start = content.index(kind) - 4
        moved[start : start + 4] = struct.pack(
            ">I", struct.unpack_from(">I", content, start)[0] + len(new) - len(old)
        )
    first = content.index(b"mdat") + 4
    moved[first : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - first)
    target.write_bytes(moved)
    return target


def many_scans(path: Path, scans: int) -> Path:
    """Write a Motion JPEG clip of four frames of 3840x2160 pixels, the last of which has `scans` scans.

    A scan takes 20 bytes, and a decoder goes through all blocks of the picture for it. libav decodes a frame
    in one call, which nothing can interrupt: 100,000 scans take about a minute.
    """
    width, height = 3840, 2160
    with av.open(path, "w", format="matroska") as output:
        stream = output.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for index, count in enumerate((0, 0, 0, scans)):
            packet = av.Packet(_progressive_jpeg(width, height, count))
            packet.pts = packet.dts = index
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            output.mux(packet)
    return path


def _progressive_jpeg(width: int, height: int, scans: int) -> bytes:
    """Return a grey JPEG picture: a scan of the blocks' averages, and `scans` that add no details to them."""

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    def code_table(number: int, symbol: int) -> bytes:
        return segment(0xC4, bytes([number, 1, *[0] * 15, symbol]))  # the symbol has the code 0, of one bit

    blocks = -(-width // 8) * -(-height // 8)
    # The code 0 for "no more details in the next 2**14 + n blocks", and then n in 14 bits.
    empty = ("0" + "10" * 7) * -(-blocks // (2**14 + 0b10101010101010))
    empty += "1" * (-len(empty) % 8)
    details = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + int(empty, 2).to_bytes(len(empty) // 8)
    averages = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(-(-blocks // 8))
    head = segment(0xDB, bytes([0, *[1] * 64])) + segment(
        0xC2, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0])
    )
    tables = code_table(0, 0) + code_table(0x10, 14 << 4)
    return b"\xff\xd8" + head + tables + averages + details * scans + b"\xff\xd9"


def _box(kind: bytes, *content: bytes) -> bytes:
    """Return an MP4 box: its length, its type, and its content."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full_box(kind: bytes, *numbers: int) -> bytes:
    """Return an MP4 "full box" of version 0 without flags that holds 32-bit numbers."""
    return _box(kind, bytes(4), struct.pack(f">{len(numbers)}I", *numbers))
