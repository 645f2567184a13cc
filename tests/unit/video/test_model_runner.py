"""The model runner: its warm-up, and the batches that the model sees."""

from collections.abc import Callable
from typing import cast, get_args

import pytest
from torch import Tensor

from tests.support.video.pipeline import StubVideoModel, WatchedModel
from worker.jobs.limits import ClipSize
from worker.video.inference.composite import Effect
from worker.video.inference.model_runner import SMALL, WARM_UP_BATCHES, ModelRunner
from worker.video.models import VideoModel

GREEN = (0, 255, 0)
BATCH = 4


def runner_for(model: StubVideoModel, warm_up_per_clip: bool | None = None) -> ModelRunner:
    return ModelRunner(cast(VideoModel, model), "cpu", BATCH, warm_up_per_clip=warm_up_per_clip)


def blank(height: int, width: int, count: int) -> list[tuple[tuple[int, ...], int]]:
    """Return what the model sees of `count` blank batches."""
    return [((BATCH, height, width, 3), 0)] * count


def test_model_runner_warms_up_fully_for_new_size_or_effect_only() -> None:
    runner = runner_for(model := WatchedModel(), warm_up_per_clip=True)
    runner.prepare("matte", GREEN, 48, 64)
    assert model.pop_seen() == blank(48, 64, WARM_UP_BATCHES)
    runner.prepare("matte", GREEN, 48, 64)
    assert model.pop_seen() == blank(48, 64, 1)
    runner.prepare("blur", GREEN, 48, 64)
    runner.prepare("matte", GREEN, 64, 48)
    assert model.pop_seen() == blank(48, 64, WARM_UP_BATCHES) + blank(64, 48, WARM_UP_BATCHES)


def test_model_runner_warms_up_at_start_for_all_effects_at_given_sizes() -> None:
    runner = runner_for(model := WatchedModel(), warm_up_per_clip=True)
    runner.warm_up([ClipSize(64, 48), ClipSize(32, 24)])
    each = len(get_args(Effect)) * WARM_UP_BATCHES
    small = blank(SMALL, SMALL, WARM_UP_BATCHES + 1)
    assert model.pop_seen() == small + blank(48, 64, each) + blank(24, 32, each)
    for effect in get_args(Effect):
        runner.prepare(effect, GREEN, 24, 32)
    assert model.pop_seen() == blank(24, 32, len(get_args(Effect)))


def test_model_runner_on_cpu_runs_one_small_batch_only() -> None:
    runner = runner_for(model := WatchedModel())
    runner.warm_up([ClipSize(640, 480)])
    assert model.pop_seen() == blank(SMALL, SMALL, 1)
    runner.prepare("matte", GREEN, 48, 64)
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
    small = blank(SMALL, SMALL, WARM_UP_BATCHES + 1)
    assert model.pop_seen() == small + blank(48, 1000, 1) + blank(48, 64, each)


def test_model_runner_raises_other_errors_of_warm_up() -> None:
    class Broken(StubVideoModel):
        def __call__(self, frames: Tensor, valid: int) -> Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        runner_for(Broken(), warm_up_per_clip=True).warm_up([ClipSize(64, 48)])
