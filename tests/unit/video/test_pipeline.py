import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.assets import asset
from tests.support.video.alpha_models import WatchedModel
from tests.support.video.broken_clips import cut_between_frames, index_cut_off
from tests.support.video.clips import Picture, gradient, make_clip, read_clip, save_png
from tests.support.video.pipeline import recording_writer, selfie_pipeline, stub_pipeline, thread_names
from worker.jobs.errors import BadVideo, ConfigurationError, EngineFailed
from worker.video.inference.model_runner import WARM_UP_BATCHES
from worker.video.inference.padding import Pad
from worker.video.models.find import FoundModel, find_model
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, PipelineCanceled, VideoRequest, VideoResult

BATCH = 4
#: torch's compiler warns about torch's own code when it is imported.
IMPORTS_TORCHSCRIPT = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
#: Parts of the carphone clip's frames: the speaker's face, and the background.
FACE, CORNER = (slice(55, 75), slice(80, 100)), (slice(0, 20), slice(0, 20))


@pytest.fixture(scope="module")
def pipeline() -> Iterator[VideoPipeline]:
    pipeline = load(16)
    yield pipeline
    pipeline.close()


def load(batch_size: int, **options: Any) -> VideoPipeline:
    pipeline = selfie_pipeline(batch_size=batch_size, **options)
    pipeline.load()
    return pipeline


def run(pipeline: VideoPipeline, request: VideoRequest) -> tuple[VideoResult, list[BatchDone]]:
    batches: list[BatchDone] = []
    return pipeline.run_clip(request, on_batch=batches.append, canceled=lambda: False), batches


def test_pipeline_turns_eight_batches_into_120_frames(pipeline: VideoPipeline, tmp_path: Path) -> None:
    source, target = asset("carphone_pristine.mp4"), tmp_path / "out.mp4"
    result, batches = run(pipeline, VideoRequest(source, target, tmp_path / "work", {"effect": "background"}))
    assert [(b.index, b.frames, b.padded) for b in batches] == [(i, 16, 0) for i in range(7)] + [(7, 8, 8)]
    assert all(b.seconds > 0 and b.memory.source == "rss" for b in batches)
    assert (result.frames, result.batches, result.padded) == (120, 8, 8)
    assert (result.width, result.height, result.rate) == (176, 144, Fraction(30000, 1001))
    assert result.bytes == target.stat().st_size
    before, after = read_clip(source), read_clip(target)
    assert len(after.times) == 120
    assert (after.times, after.rate, after.size) == (before.times, before.rate, before.size)


def composited(clip: Path, batch_size: int, pad: Pad) -> Picture:
    """Return the pictures that the writer receives, before the encoder's losses."""
    written: list[Picture] = []
    work = clip.with_name(f"{batch_size}-{pad}")
    request = VideoRequest(clip, clip.with_name("out.mp4"), work, {"effect": "background"}, pad=pad)
    run(load(batch_size, segment_writer=recording_writer(written)), request)
    return np.concatenate(written)


def test_pipeline_result_is_independent_of_padding_and_batch_size(tmp_path: Path) -> None:
    """All runs read one clip, because x264 does not write the same file each time."""
    clip = make_clip(tmp_path / "in.mp4", read_clip(asset("carphone_pristine.mp4")).pictures[:10])
    single = composited(clip, 1, "last").astype(int)
    assert len(single) == 10
    others: list[tuple[int, Pad]] = [(8, "last"), (8, "zeros"), (16, "last")]
    for batch_size, pad in others:
        batched = composited(clip, batch_size, pad)
        assert batched.shape == single.shape
        assert np.abs(batched - single).max() <= 1


def test_pipeline_without_padding_has_short_last_batch_and_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "in.mp4", [gradient(n) for n in range(10)])
    written: dict[bool, list[Picture]] = {True: [], False: []}
    for pad, padded in ((True, 2), (False, 0)):
        model, batches = WatchedModel(), list[BatchDone]()
        options = {"pad": pad, "segment_writer": recording_writer(written[pad])}
        with stub_pipeline(model, BATCH, 2, **options) as video:
            model.pop_seen()
            request = VideoRequest(
                clip, tmp_path / "out.mp4", tmp_path / f"work-{pad}", {"effect": "background"}
            )
            result = video.run_clip(request, on_batch=batches.append, canceled=lambda: False)
        assert [(shape[0], valid) for shape, valid in model.seen] == [(4, 4), (4, 4), (2 + padded, 2)]
        assert [(b.frames, b.padded, b.done) for b in batches] == [(4, 0, 4), (4, 0, 8), (2, padded, 10)]
        assert (result.frames, result.batches, result.padded) == (10, 3, padded)
        assert len(read_clip(request.target).times) == 10
    assert [len(frames) for frames in written[True]] == [4, 4, 2]
    assert (np.concatenate(written[True]) == np.concatenate(written[False])).all()


def test_pipeline_does_not_count_warm_up_as_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4", [gradient(n) for n in range(6)])
    model, batches = WatchedModel(), list[BatchDone]()
    with stub_pipeline(model, BATCH, 2, warm_up_per_clip=True) as video:
        model.pop_seen()
        request = VideoRequest(clip, tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"})
        video.run_clip(request, on_batch=batches.append, canceled=lambda: False)
    assert [valid for _, valid in model.seen] == [0] * WARM_UP_BATCHES + [4, 2]
    assert [(b.index, b.done) for b in batches] == [(0, 4), (1, 6)]
    assert len(read_clip(request.target).times) == 6


def test_pipeline_effects_keep_speaker_and_change_background(pipeline: VideoPipeline, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", read_clip(asset("carphone_pristine.mp4")).pictures[:4])
    image = save_png(tmp_path / "image.png", np.full((90, 70, 3), (200, 100, 50), np.uint8))
    before = read_clip(source).pictures[2].astype(int)
    frame = {}
    for name, request in {
        "colour": VideoRequest(
            source, tmp_path / "colour.mp4", tmp_path / "colour", {"background": "#0000ff"}
        ),
        "image": VideoRequest(
            source,
            tmp_path / "image.mp4",
            tmp_path / "image",
            {"effect": "background"},
            {"background": image},
        ),
        "blur": VideoRequest(source, tmp_path / "blur.mp4", tmp_path / "blur", {"effect": "blur"}),
        "matte": VideoRequest(source, tmp_path / "matte.mp4", tmp_path / "matte", {"effect": "matte"}),
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


def test_pipeline_keeps_times_of_variable_frame_rate(pipeline: VideoPipeline, tmp_path: Path) -> None:
    pts = [0, 40, 41, 200, 1000, 1033]
    source = make_clip(
        tmp_path / "in.mkv", [gradient(i) for i in range(6)], pts=pts, time_base=Fraction(1, 1000)
    )
    run(pipeline, VideoRequest(source, tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"}))
    assert read_clip(tmp_path / "out.mp4").times == [Fraction(t, 1000) for t in pts]


def test_pipeline_cancel_leaves_no_result_and_no_thread(pipeline: VideoPipeline, tmp_path: Path) -> None:
    batches: list[BatchDone] = []
    request = VideoRequest(
        asset("carphone_pristine.mp4"), tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"}
    )
    with pytest.raises(PipelineCanceled):
        pipeline.run_clip(request, on_batch=batches.append, canceled=lambda: len(batches) == 2)
    assert len(batches) == 2
    assert os.listdir(tmp_path) == ["work"]
    assert "clip-" not in thread_names()


@pytest.mark.parametrize("broken", [index_cut_off, cut_between_frames])
def test_pipeline_fails_on_cut_off_clip_and_leaves_no_result(
    pipeline: VideoPipeline, tmp_path: Path, broken: Callable[[Path], Path]
) -> None:
    target = tmp_path / "results" / "out.mp4"
    target.parent.mkdir()
    with pytest.raises(BadVideo):
        run(pipeline, VideoRequest(broken(tmp_path), target, tmp_path / "work", {"effect": "matte"}))
    assert os.listdir(target.parent) == []
    assert "clip-" not in thread_names()


@pytest.mark.long
def test_pipeline_fails_with_encoder_and_leaves_no_result(pipeline: VideoPipeline, tmp_path: Path) -> None:
    """FFV1 allows pictures that are wider than 16,384 pixels. x264 does not."""
    wide = make_clip(tmp_path / "in.mkv", [gradient(1, 16_386, 16)] * 40, codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(EngineFailed, match="cannot be written"):
        run(pipeline, VideoRequest(wide, tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"}))
    assert sorted(os.listdir(tmp_path)) == ["in.mkv", "work"]
    assert "clip-" not in thread_names()


def test_pipeline_needs_load_and_load_needs_known_model(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="not been loaded"):
        run(
            selfie_pipeline(),
            VideoRequest(
                asset("carphone_pristine.mp4"), tmp_path / "out.mp4", tmp_path / "work", {"effect": "matte"}
            ),
        )
    with pytest.raises(ConfigurationError, match="no video model yolo: name one of selfie_segmentation"):
        VideoPipeline(lambda: find_model("yolo", "yolo")).load()


@pytest.mark.long
def test_pipeline_import_does_not_import_torch() -> None:
    """The worker must pin its device before it imports torch."""
    script = "import sys, worker.video.pipeline; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@IMPORTS_TORCHSCRIPT
@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled")  # depends on earlier tests of the process
@pytest.mark.long
def test_pipeline_names_missing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    def find() -> FoundModel:
        # Here, in the thread of the device, because torch keeps these settings for each thread.
        monkeypatch.setattr(inductor.cpp, "cxx", (None, "no-such-compiler"))
        monkeypatch.setattr(inductor, "force_disable_caches", True)
        return find_model(name, name, asset(f"{name}.tflite"))

    name = "selfie_segmentation"
    video = VideoPipeline(find, batch_size=1, compiled=True)
    with pytest.raises(
        ConfigurationError, match=r"^torch cannot compile the video model \(.*no-such-compiler'\)\)$"
    ):
        video.load()
