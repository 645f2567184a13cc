"""Matting models whose alpha is known: they are `SelfieSegmentation` with other nets."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor

from worker.video.model import Clip
from worker.video.models.find import FoundModel
from worker.video.models.selfie_segmentation import MattingOptions, MattingPass, SelfieSegmentation

#: Seconds that `ScriptedModel` takes for a batch: long enough to kill a worker within one.
BATCH_S = 0.1


class ScriptedModel(SelfieSegmentation):
    """A model whose foreground is reddish."""

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        return cls(cast(Any, None), device)

    def alpha(self, frames: Tensor) -> Tensor:
        threading.Event().wait(BATCH_S)
        return (frames[:, None, :, :, 0] > 127).float()


class StubVideoModel(SelfieSegmentation):
    """A model whose foreground is bluish. It is an object that stands for its class.

    It calls `on_load` when it is loaded, and `on_call` with the number of each call. Blank warm-up batches do
    not count as calls.
    """

    def __init__(
        self, on_call: Callable[[int], None] = lambda call: None, on_load: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(cast(Any, None), torch.device("cpu"))
        self.calls = 0
        self.on_call = on_call
        self.on_load = on_load

    @property
    def found(self) -> FoundModel:
        """The model as a pipeline takes it."""
        return FoundModel("stub", cast(Any, self), None, "1")

    def load(self, weights: Path | None, device: torch.device) -> Self:  # type: ignore[override]
        self.on_load()
        return self

    def compile(self) -> None:
        pass

    def start(self, clip: Clip, options: MattingOptions) -> MattingPass:
        through = super().start(clip, options)

        def call(frames: Tensor, valid: int) -> Tensor:
            self.see(frames, valid)
            return through(frames, valid)

        return cast(MattingPass, call)

    def see(self, frames: Tensor, valid: int) -> None:
        """Handle a batch before its results are computed."""
        if valid:
            self.calls += 1
            self.on_call(self.calls - 1)

    def alpha(self, frames: Tensor) -> Tensor:
        return frames[:, None, :, :, 2].float() / 255


class WatchedModel(StubVideoModel):
    """A stub model that records the shape and the valid frames of each batch, blank ones too.

    It runs out of memory for pictures that are at least `too_wide` pixels wide.
    """

    def __init__(self, too_wide: int = 10_000) -> None:
        super().__init__()
        self.too_wide = too_wide
        self.seen: list[tuple[tuple[int, ...], int]] = []

    def see(self, frames: Tensor, valid: int) -> None:
        self.seen.append((tuple(frames.shape), valid))
        if frames.shape[2] >= self.too_wide:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it.")
        super().see(frames, valid)

    def pop_seen(self) -> list[tuple[tuple[int, ...], int]]:
        """Return the recorded batches, and forget them."""
        seen, self.seen = self.seen, []
        return seen
