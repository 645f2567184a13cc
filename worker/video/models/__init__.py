"""The models that a video job can run, by name.

To bring another one: write a class that fits VideoModel in a module of its own and name it in MODELS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from torch import Tensor

from worker.video.models.selfie import SelfieSegmentation


class VideoModel(Protocol):
    """Finds the foreground in a batch of frames."""

    @classmethod
    def load(cls, path: Path, device: str) -> Self:
        """Read the weights from `path` and put them on `device`; ModelMissing if they do not fit."""
        ...

    def compile(self) -> None:
        """Have torch compile what has one shape, whatever the clip: the batch size stays (`--compile`)."""
        ...

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Alpha (B,1,H,W) float, 1 in front, of `frames` (B,H,W,3) uint8 RGB on the device.

        Frames from `valid` on are padding: what is returned for them is thrown away. A model whose answer for
        one frame depends on the others must leave them out. In a warm-up `valid` is 0.
        """
        ...


#: the names that `VideoPipeline(model=...)` takes
MODELS: dict[str, type[VideoModel]] = {"selfie_segmentation": SelfieSegmentation}
