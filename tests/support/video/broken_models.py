"""Frame models that break their contract, each in one way."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.support.video.frame_models import Brightness, Identity, Plain, Trail, TrailOptions, TrailPass
from worker.jobs.errors import InvalidOptions
from worker.video.inference.model_runner import SMALL
from worker.video.model import Clip, Output, Pass


class MixesFrames(Plain):
    """Subtracts the mean of the whole batch, padding included, as batch normalisation in training does."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return (frames / 2 + 127 - frames.float().mean() / 2).to(torch.uint8)


class DependsOnBatchSize(Plain):
    """Makes frames in larger batches brighter."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames // 2 + len(frames)


class HidesItsState(Trail):
    """Has state, and neither `state` nor `sequential`."""

    def start(self, clip: Clip, options: TrailOptions) -> Pass:
        return TrailPass(options.keep).__call__


class LacksStatePass(TrailPass):
    """A pass that restores only a part of what the next batch needs."""

    def state(self) -> Mapping[str, Tensor]:
        return {"keep": torch.tensor(self.keep)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.keep = float(state["keep"])


class LacksState(Trail):
    """Has a state that does not suffice."""

    def start(self, clip: Clip, options: TrailOptions) -> Pass:
        return LacksStatePass(options.keep)


class IgnoresStatePass(TrailPass):
    """A pass that does not restore its state."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        pass


class IgnoresState(Trail):
    """Has a state that is not restored."""

    def start(self, clip: Clip, options: TrailOptions) -> Pass:
        return IgnoresStatePass(options.keep)


class WritesIntoFrames(Plain):
    """Inverts its frames in place."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames.bitwise_not_()


class LeavesTraces(Plain):
    """Makes each job brighter than the one before."""

    jobs = 0

    def start(self, clip: Clip, options: Any) -> Pass:
        self.jobs += 1
        return super().start(clip, options)

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames // 2 + 5 * self.jobs


class KeepsJobInModel(Trail):
    """Has the state of the last job that was begun, which the model itself keeps."""

    def start(self, clip: Clip, options: TrailOptions) -> Pass:
        self.job = TrailPass(options.keep)
        return lambda frames, valid: self.job(frames, valid)


class RemembersWarmUp(Plain):
    """Makes all frames as bright as the last blank ones were high."""

    height = 0

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        if not valid:
            self.height = frames.shape[1]
        return frames // 2 + self.height


class Random(Plain):
    """Adds noise."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames // 2 + torch.randint(0, 100, frames.shape, dtype=torch.uint8)


class ShortensBatch(Plain):
    """Has no results for padding."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        return frames[: valid or None]


class RecordsOfPadding(Brightness):
    """Has records for padding."""

    def __call__(self, frames: Tensor, valid: int) -> Sequence[Mapping[str, Any]]:
        return super().__call__(frames, len(frames) if valid else 0)


class PlaceInBatch(Brightness):
    """Says where in its batch each frame is."""

    def __call__(self, frames: Tensor, valid: int) -> Sequence[Mapping[str, Any]]:
        return [{"faces": [{"place": place}]} for place in range(valid)]


class TensorsInRecords(Brightness):
    """Has records that JSON lacks."""

    def __call__(self, frames: Tensor, valid: int) -> Sequence[Mapping[str, Any]]:
        return [{"mean": frame.float().mean()} for frame in frames[:valid]]


class FailsInOutput(Identity):
    """Cannot say which form its results have."""

    def output(self, clip: Clip, options: Any) -> Output:
        raise ValueError("no idea")


class RefusesClip(Identity):
    """Takes frames of one size only."""

    def output(self, clip: Clip, options: Any) -> Output:
        if clip.width != SMALL:
            raise InvalidOptions(f"the model takes frames of {SMALL}x{SMALL} pixels only")
        return Output()


class FailsLater(Identity):
    """Fails in batches that are padded."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        if 0 < valid < len(frames):
            raise KeyError("frame")
        return frames
