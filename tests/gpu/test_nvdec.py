"""Clips decoded by a GPU: the frames are libav's, and a clip that the GPU cannot decode is libav's."""

import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from tests.support.video.pipeline import selfie_pipeline
from worker.devices.gpus import list_gpus
from worker.jobs.limits import Limits
from worker.jobs.settings import gpu_env
from worker.video.decoding import nvdec_decoder
from worker.video.decoding.nvdec_decoder import NvdecDecoder
from worker.video.decoding.options import ReadOptions
from worker.video.decoding.part_decoder import OpenHardware, PartDecoder
from worker.video.request import VideoRequest, VideoResult

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("default"),  # torch warns of TF32, and of its own code
]

FRAMES = 90
CODECS = {
    "in.mp4": ("libx264", {"preset": "veryfast", "bf": "3"}),
    "open.mp4": ("libx264", {"x264-params": "open-gop=1"}),
    "hevc.mp4": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}


def write(path: Path, frames: int = FRAMES, size: tuple[int, int] = (328, 184)) -> Path:
    """Write a clip of a moving noise, with a key frame each second."""
    width, height = size
    noise = np.random.default_rng(1).integers(0, 255, (height // 8, width // 8 + 64))
    wide = np.kron(noise, np.ones((8, 8))).astype(np.uint8)
    codec, options = CODECS[path.name]
    with av.open(path, "w") as output:
        video = output.add_stream(codec, rate=30, options=options)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size = 30
        for index in range(frames):
            shift = 3 * index % 512
            colours = np.full((height // 2, width), 100 + index % 50, np.uint8)
            frame = VideoFrame.from_ndarray(np.vstack([wide[:, shift : shift + width], colours]), "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


@pytest.fixture
def every_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the GPU decode short clips too."""
    monkeypatch.setattr(nvdec_decoder, "MIN_PIXELS", 1)


def read(
    path: Path, hardware: OpenHardware | None, first: int = 0
) -> tuple[list[tuple[int | None, int]], str]:
    """Return the time and a checksum of each frame, and the decoder."""
    clip = PartDecoder(path, Limits(), ReadOptions(planes=True), hardware)
    frames = [(frame.pts, zlib.crc32(clip.pixels(frame).tobytes())) for frame in clip.part(first, None)]
    return frames, clip.decoder


@pytest.mark.usefixtures("every_clip")
@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("first", [0, 70])
def test_nvdec_decoder_shows_frames_of_libav(tmp_path: Path, name: str, first: int) -> None:
    path = write(tmp_path / name)
    frames, decoder = read(path, NvdecDecoder, first)
    assert decoder == "nvdec"
    assert frames == read(path, None, first)[0]


@pytest.mark.usefixtures("every_clip")
def test_nvdec_decoder_gives_clip_with_destroyed_frame_to_libav(tmp_path: Path) -> None:
    path = write(tmp_path / "hevc.mp4")
    with av.open(path) as container:
        packet = [bytes(packet) for packet in container.demux(video=0)][40]
    path.write_bytes(path.read_bytes().replace(packet, packet[:6] + bytes(10) + packet[16:]))
    frames, decoder = read(path, NvdecDecoder)
    assert (decoder, len(frames)) == ("libav", 70)
    assert frames == read(path, None)[0]


def test_pipeline_decodes_long_clip_on_gpu(tmp_path: Path) -> None:
    """The sandbox has a limit on its memory and none of the worker's environment but the GPU's name."""
    path = write(tmp_path / "in.mp4", 330, (1280, 720))

    def run(nvdec: dict[str, str] | None) -> VideoResult:
        pipeline = selfie_pipeline(device="cuda", nvdec=nvdec)
        pipeline.load()
        try:
            folder = tmp_path / str(nvdec is None)
            request = VideoRequest(path, folder / "out.mp4", folder / "work", {"effect": "matte"})
            return pipeline.run_clip(request, on_batch=lambda batch: None, canceled=lambda: False)
        finally:
            pipeline.close()

    results = run(gpu_env()), run(None)
    assert [result.decoder for result in results] == ["nvdec", "libav"]
    assert [result.frames for result in results] == [330, 330]
