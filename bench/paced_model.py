"""A frame model that takes the same time for each batch and no CPU, as a GPU would."""

from pathlib import Path
from threading import Event
from typing import Any, Self

import torch
from torch import Tensor

from worker.video.model import Clip, FrameModel, Options, Output

__all__ = ["BATCH_S", "PacedModel"]

#: Seconds for a batch.
BATCH_S = 0.05


class PacedModel(FrameModel):
    """Returns the frames as they are."""

    Options = Options

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        return cls()

    def output(self, clip: Clip, options: Any) -> Output:
        return Output()

    def start(self, clip: Clip, options: Any) -> Any:
        def call(frames: Tensor, valid: int) -> Tensor:
            Event().wait(BATCH_S)
            return frames

        return call
