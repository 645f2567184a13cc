import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.assets import asset
from tests.support.clips import Picture, gradient, make_clip, read_clip
from tests.unit.test_video_composite import save_png
from tests.unit.test_video_reader import cut_between_frames, index_cut_off, threads
from worker.jobs.errors import BadVideo, ConfigurationError, EngineFailed
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.padding import Pad
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, Canceled, VideoRequest, VideoResult

FACE, CORNER = (slice(55, 75), slice(80, 100)), (slice(0, 20), slice(0, 20))


@pytest.fixture(scope="module")
def pipeline() -> Iterator[VideoPipeline]:
    pipeline = load(16)
    yield pipeline
    pipeline.close()


def load(batch_size: int) -> VideoPipeline:
    pipeline = VideoPipeline(asset("selfie_segmentation.tflite"), batch_size=batch_size)
    pipeline.load()
    return pipeline


def run(pipeline: VideoPipeline, request: VideoRequest) -> tuple[VideoResult, list[BatchDone]]:
    batches: list[BatchDone] = []
    return pipeline.run(request, on_batch=batches.append, canceled=lambda: False), batches


def test_eight_batches_of_the_carphone_become_exactly_its_120_frames(
    pipeline: VideoPipeline, tmp_path: Path
) -> None:
    source, target = asset("carphone_pristine.mp4"), tmp_path / "out.mp4"
    result, batches = run(pipeline, VideoRequest(source, target, tmp_path / "work", "background"))
    assert [(b.index, b.frames, b.padded) for b in batches] == [(i, 16, 0) for i in range(7)] + [(7, 8, 8)]
    assert all(b.seconds > 0 and b.memory.source == "rss" for b in batches)
    assert (result.frames, result.batches, result.padded) == (120, 8, 8)
    assert (result.width, result.height, result.rate) == (176, 144, Fraction(30000, 1001))
    assert result.bytes == target.stat().st_size
    before, after = read_clip(source), read_clip(target)
    assert len(after.times) == 120
    assert (after.times, after.rate, after.size) == (before.times, before.rate, before.size)


def composited(clip: Path, batch_size: int, pad: Pad, monkeypatch: pytest.MonkeyPatch) -> Picture:
    """What the writer is given, before the encoder's losses."""
    written: list[Picture] = []
    write = SegmentWriter.write

    def spy(self: SegmentWriter, frames: Picture, pts: tuple[int, ...]) -> None:
        written.append(frames)
        write(self, frames, pts)

    monkeypatch.setattr(SegmentWriter, "write", spy)
    work = clip.with_name(f"{batch_size}-{pad}")
    request = VideoRequest(clip, clip.with_name("out.mp4"), work, "background", pad=pad)
    run(load(batch_size), request)
    return np.concatenate(written)


def test_neither_padding_nor_the_batch_size_changes_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clip for all of them: x264 does not make quite the same one each time."""
    clip = make_clip(tmp_path / "in.mp4", read_clip(asset("carphone_pristine.mp4")).pictures[:10])
    alone = composited(clip, 1, "last", monkeypatch).astype(int)
    assert len(alone) == 10
    others: list[tuple[int, Pad]] = [(8, "last"), (8, "zeros"), (16, "last")]
    for batch_size, pad in others:
        together = composited(clip, batch_size, pad, monkeypatch)
        assert together.shape == alone.shape
        assert np.abs(together - alone).max() <= 1


def test_every_effect_shows_the_speaker_and_changes_what_is_behind(
    pipeline: VideoPipeline, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "in.mp4", read_clip(asset("carphone_pristine.mp4")).pictures[:4])
    image = save_png(tmp_path / "image.png", np.full((90, 70, 3), (200, 100, 50), np.uint8))
    before = read_clip(source).pictures[2].astype(int)
    frame = {}
    for name, request in {
        "colour": VideoRequest(
            source, tmp_path / "colour.mp4", tmp_path / "colour", "background", (0, 0, 255)
        ),
        "image": VideoRequest(source, tmp_path / "image.mp4", tmp_path / "image", "background", image),
        "blur": VideoRequest(source, tmp_path / "blur.mp4", tmp_path / "blur", "blur"),
        "matte": VideoRequest(source, tmp_path / "matte.mp4", tmp_path / "matte", "matte"),
    }.items():
        run(pipeline, request)
        frame[name] = read_clip(request.target).pictures[2].astype(int)
    assert frame["matte"][FACE].mean() > 250
    assert frame["matte"][CORNER].mean() < 5
    assert np.abs(frame["colour"][CORNER] - (0, 0, 255)).mean() < 4
    assert np.abs(frame["image"][CORNER] - (200, 100, 50)).mean() < 4
    assert frame["blur"][CORNER].std() < before[CORNER].std()
    for name in ("colour", "image", "blur"):
        assert np.abs(frame[name][FACE] - before[FACE]).mean() < 6


def test_a_variable_frame_rate_keeps_its_times(pipeline: VideoPipeline, tmp_path: Path) -> None:
    pts = [0, 40, 41, 200, 1000, 1033]
    source = make_clip(
        tmp_path / "in.mkv", [gradient(i) for i in range(6)], pts=pts, time_base=Fraction(1, 1000)
    )
    run(pipeline, VideoRequest(source, tmp_path / "out.mp4", tmp_path / "work", "matte"))
    assert read_clip(tmp_path / "out.mp4").times == [Fraction(t, 1000) for t in pts]


def test_canceling_leaves_no_result_and_no_thread(pipeline: VideoPipeline, tmp_path: Path) -> None:
    batches: list[BatchDone] = []
    request = VideoRequest(asset("carphone_pristine.mp4"), tmp_path / "out.mp4", tmp_path / "work", "matte")
    with pytest.raises(Canceled):
        pipeline.run(request, on_batch=batches.append, canceled=lambda: len(batches) == 2)
    assert len(batches) == 2
    assert os.listdir(tmp_path) == ["work"]
    assert "clip-" not in threads()


@pytest.mark.parametrize("broken", [index_cut_off, cut_between_frames])
def test_a_clip_that_is_cut_off_fails_and_leaves_no_result(
    pipeline: VideoPipeline, tmp_path: Path, broken: Callable[[Path], Path]
) -> None:
    target = tmp_path / "results" / "out.mp4"
    target.parent.mkdir()
    with pytest.raises(BadVideo):
        run(pipeline, VideoRequest(broken(tmp_path), target, tmp_path / "work", "matte"))
    assert os.listdir(target.parent) == []
    assert "clip-" not in threads()


def test_an_encoder_that_fails_ends_the_job_and_leaves_no_result(
    pipeline: VideoPipeline, tmp_path: Path
) -> None:
    """H.264 as players want it has no odd sizes; FFV1 has."""
    odd = make_clip(tmp_path / "in.mkv", [gradient(1, 65, 49)] * 40, codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(EngineFailed, match="cannot be written"):
        run(pipeline, VideoRequest(odd, tmp_path / "out.mp4", tmp_path / "work", "matte"))
    assert sorted(os.listdir(tmp_path)) == ["in.mkv", "work"]
    assert "clip-" not in threads()


def test_run_needs_load_and_load_needs_a_known_model(tmp_path: Path) -> None:
    weights = asset("selfie_segmentation.tflite")
    with pytest.raises(EngineFailed, match="not been loaded"):
        run(
            VideoPipeline(weights),
            VideoRequest(asset("carphone_pristine.mp4"), tmp_path / "out.mp4", tmp_path / "work", "matte"),
        )
    with pytest.raises(
        ConfigurationError, match="no video model is called yolo; there are selfie_segmentation"
    ):
        VideoPipeline(weights, model="yolo").load()


def test_importing_the_pipeline_does_not_import_torch() -> None:
    """The worker pins its device first."""
    script = "import sys, worker.video.pipeline; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
