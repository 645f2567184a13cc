"""Small real media files to upload."""

from pathlib import Path

import av
import numpy as np

__all__ = ["write_clip", "write_image"]


def write_clip(path: Path, frames: int = 3, width: int = 64, height: int = 48) -> bytes:
    """Write a real H.264 clip and return its bytes. It is 4:4:4, the format that allows odd sizes."""
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for i in range(frames):
            picture = np.full((height, width, 3), 40 * i % 255, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


def write_image(path: Path, width: int = 64, height: int = 48) -> bytes:
    """Write a real PNG and return its bytes."""
    with av.open(path, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        picture = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()
