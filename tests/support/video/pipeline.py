"""Video pipelines with a stub model, and ways to observe them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import pytest
import torch
from torch import Tensor

from tests.support.video.clips import Picture
from worker.video.encoding.writer import SegmentWriter
from worker.video.models import MODELS
from worker.video.pipeline import VideoPipeline

#: The name of the stub model in `MODELS`.
STUB = "stub"


class StubVideoModel:
    """A VideoModel whose foreground is bluish.

    It calls `on_load` when it is loaded, and `on_call` with the number of each call. Blank warm-up batches do
    not count as calls.
    """

    def __init__(
        self, on_call: Callable[[int], None] = lambda call: None, on_load: Callable[[], None] = lambda: None
    ) -> None:
        self.calls = 0
        self.on_call = on_call
        self.on_load = on_load

    def load(self, path: Path, device: str) -> Self:
        self.on_load()
        return self

    def compile(self) -> None:
        pass

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        if valid:
            self.calls += 1
            self.on_call(self.calls - 1)
        return frames[:, None, :, :, 2].float() / 255


class WatchedModel(StubVideoModel):
    """A stub model that records the shape and the valid frames of each batch, blank ones too.

    It runs out of memory for pictures that are at least `too_wide` pixels wide.
    """

    def __init__(self, too_wide: int = 10_000) -> None:
        super().__init__()
        self.too_wide = too_wide
        self.seen: list[tuple[tuple[int, ...], int]] = []

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        self.seen.append((tuple(frames.shape), valid))
        if frames.shape[2] >= self.too_wide:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it.")
        return super().__call__(frames, valid)

    def pop_seen(self) -> list[tuple[tuple[int, ...], int]]:
        """Return the recorded batches, and forget them."""
        seen, self.seen = self.seen, []
        return seen


@contextmanager
def stub_pipeline(
    monkeypatch: pytest.MonkeyPatch,
    model: StubVideoModel,
    batch_size: int,
    segment_batches: int,
    **options: Any,
) -> Iterator[VideoPipeline]:
    """Register `model` as `STUB` and yield a loaded pipeline with it."""
    monkeypatch.setitem(cast("dict[str, object]", MODELS), STUB, model)
    video = VideoPipeline(
        Path(), batch_size=batch_size, segment_batches=segment_batches, model=STUB, **options
    )
    video.load()
    yield video
    video.close()


def recording_writer(written: list[Picture]) -> type[SegmentWriter]:
    """Return a SegmentWriter class that also appends each batch to `written`, before the encoder's losses."""

    class RecordingWriter(SegmentWriter):
        def write(self, frames: Picture, pts: Sequence[int]) -> None:
            written.append(frames)
            super().write(frames, pts)

    return RecordingWriter


def thread_names() -> str:
    """Return the names of all threads of this process, separated by spaces."""
    return " ".join(thread.name for thread in threading.enumerate())
