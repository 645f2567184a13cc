"""The model under test, watched: each call goes through here to the author's code."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from worker.video.model import Clip, Options, Output
from worker.video.models.find import FoundModel

__all__ = ["WatchedModel"]

T = TypeVar("T")


class WatchedModel:
    """A `FrameModel` that hands all calls on to the model under test. The object also stands for its class.

    - `writes`: whether to find out if a pass writes into its frames. This copies them.
    - `shares`: whether another job, whose frames are inverted, runs a batch after each batch of the job.
    - `seconds`: the time of each batch with real frames, from the frames on the device to the results there.
    - `written`: the number of the first batch whose frames a pass has written into, or None.
    - `unrestored`: the name of a tensor that `state` returns differently after `restore`, or None.
    - `stateful`: whether the last pass has `state` and `restore`.
    - `failure`: the last exception of the author's code.
    """

    def __init__(self, found: FoundModel) -> None:
        self._found = found
        self._adopt(found.model)
        self.reset()
        self.stateful = False
        self.failure: Exception | None = None

    def reset(self, *, writes: bool = False, shares: bool = False) -> None:
        """Forget what was observed, before the next job."""
        self.writes = writes
        self.shares = shares
        self.seconds: list[float] = []
        self.written: int | None = None
        self.unrestored: str | None = None

    @property
    def found(self) -> FoundModel:
        """The model as a pipeline takes it."""
        return replace(self._found, model=cast(Any, self))

    def load(self, weights: Path | None, device: torch.device) -> Any:
        """Load the model."""
        self.device = device
        model = self.call(self._found.model.load, weights, device)
        if not hasattr(model, "start"):
            return model  # Stoker refuses it
        self._adopt(model)
        return self

    def output(self, clip: Clip, options: Options) -> Output:
        """Return what the model returns."""
        output: Output = self.call(self._model.output, clip, options)
        return output

    def start(self, clip: Clip, options: Options) -> Any:
        """Begin a job, which is watched, too."""
        through = self.call(self._model.start, clip, options)
        self.stateful = hasattr(through, "state")
        if not callable(through) or self.stateful != hasattr(through, "restore"):
            return through  # Stoker refuses it
        other = self.call(self._model.start, clip, options) if self.shares else None
        return (StatefulWatchedPass if self.stateful else WatchedPass)(through, self, other)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the author's code. Keep its exception, because the pipeline raises another one."""
        try:
            return function(*arguments)
        except Exception as error:
            self.failure = error
            raise

    def synchronize(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _adopt(self, model: Any) -> None:
        self._model = model
        self.Options = model.Options
        self.before, self.after = getattr(model, "before", 0), getattr(model, "after", 0)
        self.sequential = getattr(model, "sequential", False)


class WatchedPass:
    """A pass of the model under test that needs no state. `other` is that of another job, if one runs."""

    def __init__(self, through: Any, watch: WatchedModel, other: Any) -> None:
        self._pass = through
        self._watch = watch
        self._other = other

    def __call__(self, frames: Tensor, valid: int) -> Any:
        """Return what the pass returns for the batch."""
        watch = self._watch
        before = frames.clone() if watch.writes else frames
        watch.synchronize()
        began = time.perf_counter()
        results = watch.call(self._pass, frames, valid)
        watch.synchronize()
        if valid:
            watch.seconds.append(time.perf_counter() - began)
            if watch.written is None and not torch.equal(before, frames):
                watch.written = len(watch.seconds)
        if self._other:
            watch.call(self._other, 255 - frames, valid)
        return results


class StatefulWatchedPass(WatchedPass):
    """A pass of the model under test that has `state` and `restore`."""

    def state(self) -> Mapping[str, Tensor]:
        """Return what the pass returns."""
        return self._watch.call(self._pass.state)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state, and find out whether the pass has it then."""
        copy = {name: tensor.clone() for name, tensor in state.items()}
        self._watch.call(self._pass.restore, state)
        back = self.state()
        names = sorted(copy.keys() | back.keys())
        self._watch.unrestored = next((name for name in names if not _same(copy, back, name)), None)


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str) -> bool:
    left, right = one.get(name), other.get(name)
    if left is None or right is None or (left.dtype, left.shape) != (right.dtype, right.shape):
        return False
    return torch.equal(left.nan_to_num(), right.detach().cpu().nan_to_num())
