"""Makes the clips that `bench.video` measures from a sample: of another size, and longer."""

from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

__all__ = ["looped", "scaled"]


def scaled(clip: Path, width: int, height: int, target: Path) -> Path:
    """Write the pictures of `clip` in this size to `target`, without sound, and return `target`."""
    with av.open(clip) as source, av.open(target, "w") as output:
        video, scaler = source.streams.video[0], VideoReformatter()
        options = {"crf": "18", "preset": "veryfast"}
        stream = output.add_stream("libx264", rate=video.average_rate or Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in source.decode(video):
            picture = scaler.reformat(frame, width, height, "yuv420p")
            picture.pict_type = 0  # the encoder chooses the key frames
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return target


def looped(clip: Path, loops: int, target: Path) -> Path:
    """Write the pictures of `clip` so many times in a row to `target`, without sound, and return `target`.

    The packets are copied, and nothing is encoded.
    """
    with av.open(target, "w") as output:
        stream, offset = None, 0
        for _ in range(loops):
            with av.open(clip) as source:
                video = source.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                length = 0
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:  # the end
                        continue
                    length = max(length, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    output.mux(packet)
                offset += length
    return target
