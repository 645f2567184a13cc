"""One job's way through a model: batches through reused buffers, with checks of what the model returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.jobs.errors import ModelFailed, StokerError
from worker.video.decoding.reader import Frames, Window
from worker.video.inference.copy_clock import CopyClock
from worker.video.inference.plane_converter import PlaneConverter
from worker.video.inference.torch_errors import classify_torch_error
from worker.video.model import Clip, Output, Pass, StatefulPass
from worker.video.stages import Stages

__all__ = ["ModelPass", "Results", "call_model"]

T = TypeVar("T")

#: The frames (N, ...) uint8 on the host, or the records, of a batch.
Results = Frames | Sequence[Mapping[str, Any]]


def call_model(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of the model.

    Raises `OutOfMemory`, `EngineDied`, a `StokerError` of the function, and `ModelFailed` for other errors.
    """
    try:
        return function(*arguments)
    except StokerError:
        raise
    except Exception as error:
        failure = classify_torch_error(error)
        if failure:
            raise failure from error
        text = str(error).partition("\n")[0]
        raise ModelFailed(
            f"the model raised {type(error).__name__}" + (f": {text}" if text else "")
        ) from error


class ModelPass:
    """One job's way through the model.

    `host` is the host's buffer for the resulting frames, if the model runs on a GPU.
    `sequential` is that of the model: no other worker can continue this job. `stages` gets the seconds of
    copies and of the model. With a `converter`, the frames have its form and the results are planes. Else
    both are RGB.
    """

    def __init__(
        self,
        through: Pass,
        clip: Clip,
        output: Output,
        window: Window,
        device: torch.device,
        host: Tensor | None,
        stages: Stages,
        converter: PlaneConverter | None,
        *,
        sequential: bool,
    ) -> None:
        self._pass = through
        self._window = window
        self._device = device
        self._host = host
        self._stages = stages
        self._converter = converter
        self._size = output.height or clip.height, output.width or clip.width
        self.output = output
        self.sequential = sequential
        #: Such a pass may keep frames for the next batch, and the caller overwrites its own.
        self._copies = sequential or self.stateful

    def check(self) -> None:
        """Raise `ModelFailed` if the model's pass has not the form of a pass."""
        if not callable(self._pass):
            raise ModelFailed(f"start returned {_described(self._pass)} instead of a pass")
        for one, other in (("state", "restore"), ("restore", "state")):
            if hasattr(self._pass, one) and not hasattr(self._pass, other):
                raise ModelFailed(f"the model's pass has the method {one} and no method {other}")

    @property
    def stateful(self) -> bool:
        """Whether another worker can only continue with the model's state."""
        return hasattr(self._pass, "state") and hasattr(self._pass, "restore")

    @torch.inference_mode()
    def __call__(self, window: Frames, valid: int) -> Results:
        """Return the results of the frames in `window`. Between the neighbours, the first `valid` are real.

        Frames are uint8 on the host. Resulting frames are valid until the next call, or until `window` is
        overwritten, which may be as soon as this call returns. Raises what `call_model` raises.
        """
        start, copies = time.perf_counter(), CopyClock(self._device)
        results = self._results_of(window, valid, copies)
        self._stages.add("copy", copies.seconds)
        self._stages.add("model", time.perf_counter() - start - copies.seconds)
        return results

    def save_state(self) -> Callable[[Path], None]:
        """Copy the model's state to the host. Return the function that writes it to a file."""
        state: Any = call_model(cast(StatefulPass, self._pass).state)
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise ModelFailed(
                f"state returned {_described(state)} instead of a mapping from names to tensors"
            )
        if wrong := [name for name, value in state.items() if not isinstance(value, Tensor)]:
            raise ModelFailed(f"the state {wrong[0]} is {_described(state[wrong[0]])} instead of a tensor")
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
        return lambda path: save_file(tensors, path)

    def restore(self, path: Path) -> None:
        """Continue with the state in the file."""
        call_model(cast(StatefulPass, self._pass).restore, load_file(path))

    def _results_of(self, window: Frames, valid: int, copies: CopyClock) -> Results:
        with copies.copying():
            batch = torch.from_numpy(window).to(self._device, non_blocking=True, copy=self._copies)
        if self._converter:
            batch = call_model(self._converter.to_rgb, batch)
        results = call_model(self._pass, batch, valid)
        if self.output.kind == "records":
            return self._checked_records(results, valid)
        frames = self._checked_frames(results, len(window) - self._window.before - self._window.after)
        if self._converter:
            frames = call_model(self._converter.to_planes, frames)
        return call_model(self._to_host, frames, copies)

    def _checked_records(self, records: Any, valid: int) -> Sequence[Mapping[str, Any]]:
        if isinstance(records, Tensor) or not isinstance(records, Sequence):
            raise ModelFailed(f"the model returned {_described(records)} instead of a sequence of records")
        if len(records) != valid:
            raise ModelFailed(f"the model returned {len(records)} records for {valid} frames")
        for record in records:
            if not isinstance(record, Mapping):
                raise ModelFailed(f"the model returned {_described(record)} instead of a record")
        return records

    def _checked_frames(self, frames: Any, size: int) -> Tensor:
        shape = (self.output.count(size), *self._size, 3)
        if isinstance(frames, Tensor) and frames.dtype == torch.uint8 and tuple(frames.shape) == shape:
            return frames
        expected = f"uint8 {shape} RGB"
        raise ModelFailed(f"the model returned {_described(frames)} instead of frames of {expected}")

    def _to_host(self, frames: Tensor, copies: CopyClock) -> Frames:
        if self._host is None:
            return frames.numpy()
        host = self._host[: len(frames)]
        with copies.copying():
            host.copy_(frames.contiguous(), non_blocking=True)
        # A blocking event sleeps instead of spinning: the encoders need the CPU.
        copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch's stub
        copied.record()
        copied.synchronize()
        return host.numpy()


def _described(value: object) -> str:
    """Return the kind of the value for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"a {type(value).__name__}"
