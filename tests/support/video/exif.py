"""Pictures with EXIF data, and clips of such pictures as cameras write them."""

import struct
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np

from tests.support.video.clips import Picture

__all__ = ["camera_clip", "oriented_jpeg", "stored"]


def stored(picture: Picture, orientation: int) -> Picture:
    """Return the picture as a camera stores it with this EXIF orientation (1 to 8)."""
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}[orientation]
    mirrored = orientation in (2, 4, 5, 7)
    turned = np.rot90(picture, turns)
    return np.ascontiguousarray(
        turned[:, ::-1] if mirrored and not turns % 2 else turned[::-1] if mirrored else turned
    )


def oriented_jpeg(picture: Picture, orientation: int) -> bytes:
    """Return `picture` (H,W,3) uint8 RGB as a JPEG file with this EXIF orientation."""
    content = BytesIO()
    with av.open(content, "w", format="mjpeg") as output:
        stream = output.add_stream("mjpeg", rate=25, options={"q": "1", "qmin": "1"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuvj444p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(picture).reformat(format="yuvj444p")))
        output.mux(stream.encode(None))
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    jpeg = content.getvalue()
    return jpeg[:2] + struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif + jpeg[2:]


def camera_clip(path: Path, pictures: list[Picture], orientation: int = 1) -> Path:
    """Write a Motion JPEG clip whose frames have EXIF data, as digital cameras do."""
    with av.open(path, "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj444p"
        for index, picture in enumerate(pictures):
            packet = av.Packet(oriented_jpeg(picture, orientation))
            packet.pts = packet.dts = index
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            output.mux(packet)
    return path
