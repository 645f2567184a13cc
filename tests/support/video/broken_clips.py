"""Broken video clips: each function writes one into a folder and returns its path."""

from pathlib import Path

import av

from tests.support.assets import asset
from tests.support.video.clips import gradient, make_clip, remux, truncate

CARPHONE = "carphone_pristine.mp4"


def text(folder: Path) -> Path:
    path = folder / "clip.mp4"
    path.write_text("This is not a video.")
    return path


def sound_only(folder: Path) -> Path:
    path = folder / "clip.mp4"
    with av.open(asset("bigbuckbunny.mp4")) as old, av.open(path, "w") as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    return path


def no_frames(folder: Path) -> Path:
    """Write a fragmented MP4 that ends before its first fragment."""
    path = folder / "clip.mp4"
    with av.open(path, "w", options={"movflags": "empty_moov+frag_keyframe"}) as output:
        stream = output.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    return path


def unknown_codec(folder: Path) -> Path:
    content = asset(CARPHONE).read_bytes()
    path = folder / "clip.mp4"
    path.write_bytes(content.replace(b"avc1", b"zzzz"))
    return path


def unlisted_codec(folder: Path) -> Path:
    """Write a clip for which libav has a decoder, but that the list of codecs does not name."""
    return make_clip(folder / "clip.mkv", [gradient(i) for i in range(3)], codec="snow")


def index_cut_off(folder: Path) -> Path:
    """Write the first half of an MP4 whose index is at the end."""
    return truncate(asset(CARPHONE), folder / "clip.mp4", 0.5)


def index_first(folder: Path) -> Path:
    """Write a complete MP4 whose index is at the start."""
    return remux(asset(CARPHONE), folder / "whole.mp4", movflags="faststart")


def cut_inside_a_frame(folder: Path) -> Path:
    return truncate(index_first(folder), folder / "clip.mp4", 0.5)


def cut_between_frames(folder: Path) -> Path:
    """Write an MP4 that ends between two frames. libav's demuxer ends there without an error."""
    whole = index_first(folder)
    with av.open(whole) as container:
        ends = sorted(entry.pos + entry.size for entry in container.streams.video[0].index_entries)
    return truncate(whole, folder / "clip.mp4", ends[60])


def one_byte_short(folder: Path) -> Path:
    whole = index_first(folder)
    return truncate(whole, folder / "clip.mp4", whole.stat().st_size - 1)


def fragmented(folder: Path) -> Path:
    """Write the first half of a fragmented MP4."""
    whole = remux(asset(CARPHONE), folder / "whole.mp4", movflags="frag_every_frame+empty_moov")
    return truncate(whole, folder / "clip.mp4", 0.5)


def damaged(folder: Path) -> Path:
    """Write an MP4 with zeros in its middle."""
    content = bytearray(asset(CARPHONE).read_bytes())
    content[100_000:300_000] = bytes(200_000)
    path = folder / "clip.mp4"
    path.write_bytes(content)
    return path
