"""The probe of uploads: the clips and images that it accepts and describes, and those that it refuses."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.assets import asset
from tests.support.video.broken_clips import (
    cut_between_frames,
    cut_inside_a_frame,
    index_cut_off,
    index_first,
    no_frames,
    sound_only,
    text,
    unknown_codec,
    unlisted_codec,
)
from tests.support.video.clips import gradient, make_clip, save_png, truncate
from tests.support.video.sandboxes import open_clip
from worker.jobs.errors import InvalidInput
from worker.jobs.limits import Limits
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.media.probe.codecs import DECODERS
from worker.jobs.media.probe.probe import CLIPS, open_media, probe, probe_image


def test_probe_describes_clip() -> None:
    assert probe(asset("carphone_pristine.mp4")) == ClipInfo(
        width=176,
        height=144,
        frames=120,
        rate=Fraction(30000, 1001),
        duration_s=4.004,
        has_audio=False,
        codec="h264",
    )
    assert probe(asset("bigbuckbunny.mp4")).has_audio


def clip(
    folder: Path,
    name: str,
    width: int = 64,
    height: int = 48,
    frames: int = 3,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
) -> Path:
    pictures = [gradient(index, width, height) for index in range(frames)]
    return make_clip(folder / name, pictures, codec=codec, pix_fmt=pix_fmt)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.ts", "clip.avi", "clip.flv"])
def test_probe_accepts_common_containers_whatever_their_name(tmp_path: Path, name: str) -> None:
    misnamed = clip(tmp_path, name, frames=25).rename(tmp_path / "notes.txt")
    info = probe(misnamed)
    assert (info.width, info.height, info.codec) == (64, 48, "h264")


def test_probe_accepts_smallest_size_and_single_frame(tmp_path: Path) -> None:
    assert probe(clip(tmp_path, "clip.mp4", 16, 16, frames=1)).frames == 1


@pytest.mark.parametrize("make", [cut_inside_a_frame, cut_between_frames])
def test_probe_accepts_clip_truncated_after_index(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    info = probe(make(tmp_path))
    assert (info.width, info.height, info.frames) == (176, 144, 120)


def test_probe_accepts_clip_whose_index_is_cut_off(tmp_path: Path) -> None:
    assert probe(index_cut_off(tmp_path)) == ClipInfo()


def test_probe_accepts_clip_with_index_only(tmp_path: Path) -> None:
    whole = index_first(tmp_path)
    head = truncate(whole, tmp_path / "clip.mp4", whole.read_bytes().index(b"mdat") + 4)
    assert probe(head).frames == 120


def test_probe_accepts_title_that_is_not_utf8(tmp_path: Path) -> None:
    path = index_first(tmp_path)
    content = path.read_bytes()
    place = content.index(b"Lavf")
    path.write_bytes(content[:place] + b"\xff\xfe\xe9!" + content[place + 4 :])
    assert probe(path).frames == 120
    with open_clip(path, 16) as reader:
        assert next(iter(reader)).valid == 16


def empty(folder: Path) -> Path:
    path = folder / "clip.mp4"
    path.touch()
    return path


def image(suffix: str, codec: str, pix_fmt: str) -> Callable[[Path], Path]:
    """Return a function that writes an image named clip.mp4 into a folder."""

    def make(folder: Path) -> Path:
        path = folder / f"image.{suffix}"
        with av.open(
            path, "w", options={"update": "1"} if suffix in {"png", "jpg", "webp"} else {}
        ) as output:
            stream = output.add_stream(codec, rate=1)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
            frame = av.VideoFrame.from_ndarray(gradient(1)).reformat(format=pix_fmt)
            frame.pts = 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return path.rename(folder / "clip.mp4")

    return make


def sized(width: int, height: int) -> Callable[[Path], Path]:
    """Return a function that writes a clip of this size, with a lossless codec, which accepts any size."""
    return lambda folder: clip(folder, "clip.mkv", width, height, codec="ffv1", pix_fmt="bgr0")


def playlist(content: str) -> Callable[[Path], Path]:
    """Return a function that writes a playlist named clip.mp4 into a folder, and segment.ts beside it."""

    def make(folder: Path) -> Path:
        clip(folder, "segment.ts")
        path = folder / "clip.mp4"
        path.write_text(content)
        return path

    return make


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsegment.ts\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile segment.ts\n"
DASH = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>
<AdaptationSet><Representation id="0" bandwidth="1"><BaseURL>segment.ts</BaseURL></Representation>
</AdaptationSet></Period></MPD>"""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, "is empty"),
        (text, "not a video"),
        (image("png", "png", "rgb24"), "not a video"),
        (image("jpg", "mjpeg", "yuvj420p"), "not a video"),
        (image("gif", "gif", "rgb8"), "still image"),
        (image("avif", "libsvtav1", "yuv420p"), "still image"),
        (playlist(HLS), "not a video"),
        (playlist(CONCAT), "not a video"),
        (playlist(DASH), "not a video"),
        (sound_only, "no video stream"),
        (no_frames, "no frames"),
        (unknown_codec, "codec is not one"),
        (unlisted_codec, "codec is not one"),
        (sized(1, 1), "16 pixels at least"),
        (sized(64, 14), "16 pixels at least"),
        (sized(66, 48), "more than 3072 pixels"),
    ],
)
def test_probe_refuses_unsuitable_file_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        probe(make(tmp_path), Limits(max_pixels=64 * 48))
    assert caught.value.field == "file"
    assert len(str(caught.value).split(". ")) <= 2, "the cause, and the way out"
    assert str(caught.value).endswith(".")


def test_codec_list_names_decoders_of_libav() -> None:
    for name in DECODERS.split(","):
        assert av.Codec(name, "r").name == name


def test_open_media_uses_no_decoder_that_is_not_listed(tmp_path: Path) -> None:
    """To describe the streams, libav decodes the first frame of a Snow clip, which has its pixel format."""
    path = unlisted_codec(tmp_path)
    with av.open(path) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"
    with open_media(path, CLIPS) as container:
        assert container.streams.video[0].pix_fmt is None


def test_probe_accepts_animated_gif(tmp_path: Path) -> None:
    assert probe(clip(tmp_path, "clip.gif", codec="gif", pix_fmt="rgb8")).codec == "gif"


def test_probe_image_returns_size(tmp_path: Path) -> None:
    path = save_png(tmp_path / "image.png", np.zeros((30, 50, 3), np.uint8))
    assert probe_image(path.rename(tmp_path / "image")) == (50, 30)


@pytest.mark.parametrize("make", [empty, text, index_first, playlist(HLS)])
def test_probe_image_refuses_other_files(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(InvalidInput, match="not an image") as caught:
        probe_image(make(tmp_path))
    assert caught.value.field == "file"


def test_probe_image_refuses_too_many_pixels(tmp_path: Path) -> None:
    path = save_png(tmp_path / "image.png", np.zeros((30, 50, 3), np.uint8))
    with pytest.raises(InvalidInput, match="more than 1499 pixels"):
        probe_image(path, Limits(max_pixels=1499))


def test_probe_imports_neither_torch_nor_numpy() -> None:
    module = "worker.jobs.media.probe.probe"
    script = f"import sys, {module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
