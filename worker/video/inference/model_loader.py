"""Loads a model onto its device."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from worker.jobs.errors import ConfigurationError, ModelFailed
from worker.jobs.limits import DEFAULTS, ClipSize, Limits
from worker.video.inference.model_pass import call_model
from worker.video.inference.model_runner import ModelRunner, first_line
from worker.video.model import FrameModel
from worker.video.models.find import FoundModel

__all__ = ["load_model_runner"]


def load_model_runner(
    found: FoundModel,
    device: str,
    batch_size: int,
    *,
    limits: Limits = DEFAULTS,
    sizes: Iterable[ClipSize] = (),
    compiled: bool = False,
    warm_up_per_clip: bool | None = None,
    planes: bool | None = None,
) -> ModelRunner:
    """Load the model, compile it if `compiled`, and warm it up for clips of `sizes`.

    Raises `ConfigurationError` if the model breaks its contract or torch cannot compile it, and
    `ModelMissing` if the weights are not this model's.
    """
    try:
        model = call_model(found.model.load, found.weights, torch.device(device))
        if not hasattr(model, "start"):
            raise ModelFailed(f"load returned a {type(model).__name__} instead of the model")
        if compiled:
            _compile(model)
        how = {"warm_up_per_clip": warm_up_per_clip, "planes": planes}
        runner = ModelRunner(model, device, batch_size, limits=limits, **how)
        runner.warm_up(sizes)
    except ModelFailed as error:
        if compiled and isinstance(error.__cause__, RuntimeError):  # torch's compiler misses some tool
            raise ConfigurationError(f"torch cannot compile the video model ({first_line(error)})") from error
        raise ConfigurationError(f"the video model {found.name} cannot be used: {error}") from error
    return runner


def _compile(model: FrameModel) -> None:
    if not (compile_ := getattr(model, "compile", None)):
        raise ConfigurationError("this video model cannot be compiled: leave --compile out")
    call_model(compile_)
