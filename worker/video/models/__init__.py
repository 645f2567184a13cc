"""The models that a video job can run, by name.

To add one, write a class that implements `VideoModel` in a module of this package, and add it to `MODELS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from torch import Tensor

from worker.video.models.selfie import SelfieSegmentation

__all__ = ["MODELS", "VideoModel"]


class VideoModel(Protocol):
    """A model that finds the foreground in a batch of frames."""

    @classmethod
    def load(cls, path: Path, device: str) -> Self:
        """Read the weights from `path` and move the model to `device` ("cpu", "cuda" …).

        Raises `ModelMissing` if the weights are not this model's.
        """
        ...

    def compile(self) -> None:
        """Let torch compile the parts whose shapes depend only on the batch size, not on the clip.

        It is called once after `load`, if the setting asks for it (`--compile`).
        """
        ...

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return alpha (B,1,H,W) float on the device, 1 in the foreground, for `frames` (B,H,W,3) uint8 RGB.

        Frames from index `valid` on are padding, and the pipeline drops their results. If the result of one
        frame depends on others, the model must ignore the padding. In a warm-up `valid` is 0.
        """
        ...


#: Models by the name that `VideoPipeline(model=...)` takes.
MODELS: dict[str, type[VideoModel]] = {"selfie_segmentation": SelfieSegmentation}
