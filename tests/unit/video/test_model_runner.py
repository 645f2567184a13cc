"""The model runner: its warm-up, and the batches that the model sees."""

from collections.abc import Callable
from fractions import Fraction
from typing import cast, get_args

import pytest
from torch import Tensor

from tests.support.video.alpha_models import StubVideoModel, WatchedModel
from worker.jobs.errors import ModelFailed
from worker.jobs.limits import ClipSize
from worker.video.inference.model_runner import SMALL, WARM_UP_BATCHES, ModelRunner
from worker.video.model import Clip, FrameModel
from worker.video.models.selfie_segmentation import MattingOptions
from worker.video.models.selfie_segmentation.composite import Effect

BATCH = 4


def runner_for(model: StubVideoModel, warm_up_per_clip: bool | None = None) -> ModelRunner:
    return ModelRunner(cast(FrameModel, model), "cpu", BATCH, warm_up_per_clip=warm_up_per_clip)


def prepare(runner: ModelRunner, effect: Effect, height: int, width: int) -> None:
    clip = Clip(width, height, Fraction(25), None)
    runner.prepare(clip, MattingOptions(effect=effect), runner.buffers())


def blank(height: int, width: int, count: int) -> list[tuple[tuple[int, ...], int]]:
    """Return what the model sees of `count` blank batches."""
    return [((BATCH, height, width, 3), 0)] * count


def test_model_runner_warms_up_fully_for_new_size_or_effect_only() -> None:
    runner = runner_for(model := WatchedModel(), warm_up_per_clip=True)
    prepare(runner, "matte", 48, 64)
    assert model.pop_seen() == blank(48, 64, WARM_UP_BATCHES)
    prepare(runner, "matte", 48, 64)
    assert model.pop_seen() == blank(48, 64, 1)
    prepare(runner, "blur", 48, 64)
    prepare(runner, "matte", 64, 48)
    assert model.pop_seen() == blank(48, 64, WARM_UP_BATCHES) + blank(64, 48, WARM_UP_BATCHES)


def test_model_runner_warms_up_at_start_for_all_effects_at_given_sizes() -> None:
    runner = runner_for(model := WatchedModel(), warm_up_per_clip=True)
    runner.warm_up([ClipSize(64, 48), ClipSize(32, 24)])
    each = len(get_args(Effect)) * WARM_UP_BATCHES
    small = blank(SMALL, SMALL, 1)
    assert model.pop_seen() == small + blank(48, 64, each) + blank(24, 32, each)
    for effect in get_args(Effect):
        prepare(runner, effect, 24, 32)
    assert model.pop_seen() == blank(24, 32, len(get_args(Effect)))


def test_model_runner_on_cpu_runs_one_small_batch_only() -> None:
    runner = runner_for(model := WatchedModel())
    runner.warm_up([ClipSize(640, 480)])
    assert model.pop_seen() == blank(SMALL, SMALL, 1)
    prepare(runner, "matte", 48, 64)
    assert model.pop_seen() == []


def test_model_runner_skips_size_without_enough_memory_and_logs_it(
    log_messages: Callable[[], list[str]],
) -> None:
    runner = runner_for(model := WatchedModel(too_wide=1000), warm_up_per_clip=True)
    runner.warm_up([ClipSize(1000, 48), ClipSize(64, 48)])
    assert log_messages() == [
        "cannot warm up for clips of 1000x48: CUDA out of memory. Tried to allocate 2.00 GiB."
    ]
    each = len(get_args(Effect)) * WARM_UP_BATCHES
    small = blank(SMALL, SMALL, 1)
    assert model.pop_seen() == small + blank(48, 1000, 1) + blank(48, 64, each)


def test_model_runner_raises_other_errors_of_warm_up() -> None:
    class Broken(StubVideoModel):
        def alpha(self, frames: Tensor) -> Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(ModelFailed, match="the model raised RuntimeError: shapes"):
        runner_for(Broken(), warm_up_per_clip=True).warm_up([ClipSize(64, 48)])
