"""The stage: what it warms up for, and what a batch of the clip looks like to the model."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.assets import asset
from tests.support.clips import Picture, ScriptedModel, gradient, make_clip, read_clip, scripted
from worker.jobs.errors import ConfigurationError
from worker.jobs.limits import ClipSize
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.composite import Effect
from worker.video.inference.model_runner import SMALL, WARM_UP_BATCHES, ModelRunner
from worker.video.models import VideoModel
from worker.video.models.selfie import SelfieSegmentation
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, VideoRequest

GREEN = (0, 255, 0)
BATCH = 4
#: torch's compiler warns of torch's own code when it is imported.
IMPORTS_TORCHSCRIPT = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Watched(ScriptedModel):
    """Notes the shape and the valid frames of each batch; has no memory for pictures `too_wide`."""

    def __init__(self, too_wide: int = 10_000) -> None:
        super().__init__()
        self.too_wide = too_wide
        self.seen: list[tuple[tuple[int, ...], int]] = []

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        self.seen.append((tuple(frames.shape), valid))
        if frames.shape[2] >= self.too_wide:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it.")
        return super().__call__(frames, valid)

    def taken(self) -> list[tuple[tuple[int, ...], int]]:
        seen, self.seen = self.seen, []
        return seen


def stage_of(model: ScriptedModel, warms: bool | None = None) -> ModelRunner:
    return ModelRunner(cast(VideoModel, model), "cpu", BATCH, warms=warms)


def blank(height: int, width: int, count: int) -> list[tuple[tuple[int, ...], int]]:
    return [((BATCH, height, width, 3), 0)] * count


def test_a_clip_of_a_new_size_or_effect_is_warmed_up_for_and_any_clip_once() -> None:
    stage = stage_of(model := Watched(), warms=True)
    stage.scene("matte", GREEN, 48, 64)
    assert model.taken() == blank(48, 64, WARM_UP_BATCHES)
    stage.scene("matte", GREEN, 48, 64)
    assert model.taken() == blank(48, 64, 1)
    stage.scene("blur", GREEN, 48, 64)
    stage.scene("matte", GREEN, 64, 48)
    assert model.taken() == blank(48, 64, WARM_UP_BATCHES) + blank(64, 48, WARM_UP_BATCHES)


def test_at_its_start_it_warms_up_for_every_effect_at_the_sizes_it_is_given() -> None:
    stage = stage_of(model := Watched(), warms=True)
    stage.warm_up([ClipSize(64, 48), ClipSize(32, 24)])
    each = len(get_args(Effect)) * WARM_UP_BATCHES
    small = blank(SMALL, SMALL, WARM_UP_BATCHES + 1)
    assert model.taken() == small + blank(48, 64, each) + blank(24, 32, each)
    for effect in get_args(Effect):
        stage.scene(effect, GREEN, 24, 32)
    assert model.taken() == blank(24, 32, len(get_args(Effect)))


def test_a_cpu_wakes_up_with_one_small_batch_and_clips_start_at_once() -> None:
    stage = stage_of(model := Watched())
    stage.warm_up([ClipSize(640, 480)])
    assert model.taken() == blank(SMALL, SMALL, 1)
    stage.scene("matte", GREEN, 48, 64)
    assert model.taken() == []


def test_a_size_without_enough_memory_is_left_out_with_a_line_that_says_so(
    said: Callable[[], list[str]],
) -> None:
    stage = stage_of(model := Watched(too_wide=1000), warms=True)
    stage.warm_up([ClipSize(1000, 48), ClipSize(64, 48)])
    assert said() == ["not warm for clips of 1000x48: CUDA out of memory. Tried to allocate 2.00 GiB."]
    each = len(get_args(Effect)) * WARM_UP_BATCHES
    small = blank(SMALL, SMALL, WARM_UP_BATCHES + 1)
    assert model.taken() == small + blank(48, 1000, 1) + blank(48, 64, each)


def test_what_else_goes_wrong_while_it_warms_up_comes_out() -> None:
    class Broken(ScriptedModel):
        def __call__(self, frames: Tensor, valid: int) -> Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        stage_of(Broken(), warms=True).warm_up([ClipSize(64, 48)])


def test_without_padding_the_last_batch_is_short_and_the_result_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "in.mp4", [gradient(n) for n in range(10)])
    written: dict[bool, list[Picture]] = {True: [], False: []}
    for pad, padded in ((True, 2), (False, 0)):
        with monkeypatch.context() as patch, scripted(patch, model := Watched(), BATCH, 2, pad=pad) as video:
            patch.setattr(SegmentWriter, "write", lambda self, frames, pts: written[pad].append(frames))  # noqa: B023
            patch.setattr(VideoPipeline, "_join", lambda *_: 0)
            model.taken()
            batches: list[BatchDone] = []
            request = VideoRequest(clip, tmp_path / "out.mp4", tmp_path / f"work-{pad}", "background")
            result = video.run(request, on_batch=batches.append, canceled=lambda: False)
        assert [(shape[0], valid) for shape, valid in model.seen] == [(4, 4), (4, 4), (2 + padded, 2)]
        assert [(b.frames, b.padded, b.done) for b in batches] == [(4, 0, 4), (4, 0, 8), (2, padded, 10)]
        assert (result.frames, result.batches, result.padded) == (10, 3, padded)
    assert [len(frames) for frames in written[True]] == [4, 4, 2]
    assert (np.concatenate(written[True]) == np.concatenate(written[False])).all()


def test_a_warm_up_is_no_batch_of_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4", [gradient(n) for n in range(6)])
    batches: list[BatchDone] = []
    with scripted(monkeypatch, model := Watched(), BATCH, 2) as video:
        assert video._stage is not None
        video._stage._warms = True  # as on a GPU
        model.taken()
        request = VideoRequest(clip, tmp_path / "out.mp4", tmp_path / "work", "matte")
        video.run(request, on_batch=batches.append, canceled=lambda: False)
    assert [valid for _, valid in model.seen] == [0] * WARM_UP_BATCHES + [4, 2]
    assert [(b.index, b.done) for b in batches] == [(0, 4), (1, 6)]
    assert len(read_clip(request.target).times) == 6


@IMPORTS_TORCHSCRIPT
def test_a_compiled_model_says_the_same_and_is_compiled_for_one_shape_and_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch traces it for real; what needs a C++ compiler and minutes is left to `tests/gpu`."""
    weights = asset("selfie_segmentation.tflite")
    plain, compiled = (SelfieSegmentation.load(weights, "cpu") for _ in range(2))
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda net, *, mode, **how: compile_(net, backend="eager", **how)
    )
    compiled.compile()
    frames = torch.randint(0, 256, (5, 40, 60, 3), dtype=torch.uint8)
    torch.testing.assert_close(compiled(frames, 5), plain(frames, 5))
    results: list[Tensor | RuntimeError] = []

    def ask(frames: Tensor) -> None:
        try:
            results.append(compiled(frames, len(frames)))
        except RuntimeError as error:
            results.append(error)

    with torch.compiler.set_stance("fail_on_recompile"):
        for batch in (frames, frames[:4]):
            thread = threading.Thread(target=ask, args=(batch,))
            thread.start()
            thread.join()
    as_ever, ragged = results
    assert isinstance(as_ever, Tensor)
    torch.testing.assert_close(as_ever, plain(frames, 5))
    assert isinstance(ragged, RuntimeError), "a short batch is another shape"


@IMPORTS_TORCHSCRIPT
def test_without_a_compiler_a_compiled_worker_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "no-such-compiler"))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    video = VideoPipeline(asset("selfie_segmentation.tflite"), batch_size=1, compiled=True)
    with pytest.raises(
        ConfigurationError, match=r"^torch cannot compile the video model \(.*no-such-compiler'\)\)$"
    ):
        video.load()


def test_rounding_to_ten_bits_would_move_the_matte_by_more_than_it_may() -> None:
    """Why there is neither half precision nor TF32 here."""
    model = SelfieSegmentation.load(asset("selfie_segmentation.tflite"), "cpu")
    reference = np.load(Path(__file__).parents[1] / "fixtures" / "selfie_reference.npz")
    frame = torch.from_numpy(reference["frame"])[None]
    exact = model(frame, 1)

    def rounded(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.half().float() for tensor in inputs)

    hook = model._net.stem.register_forward_pre_hook(rounded)
    assert (model(frame, 1) - exact).abs().max() > 2e-3
    hook.remove()
    torch.testing.assert_close(model(frame, 1), exact)
