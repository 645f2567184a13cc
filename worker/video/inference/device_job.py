"""One clip's job on the device, which the clip's own thread uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from worker.devices.memory import MemoryReport, measure
from worker.video.colour.pixel_form import PixelForm
from worker.video.decoding.header import ClipHeader
from worker.video.decoding.reader import Frames, Window
from worker.video.inference.device_thread import DeviceThread
from worker.video.model import Options, Output
from worker.video.stages import Stages

if TYPE_CHECKING:  # torch is imported after the device is pinned
    from worker.video.inference.model_pass import Results
    from worker.video.inference.model_runner import ModelRunner

__all__ = ["DeviceJob"]

T = TypeVar("T")


class DeviceJob:
    """One clip's way through the model, and its buffers.

    Each method runs in the device's thread, between the calls of other clips, and its caller waits for it.
    `check` is called every second meanwhile: see `DeviceThread.call`. The methods raise what `call_model`
    raises. `stages` gets the seconds of copies and of the model.

    It is a context manager. Leaving it releases the buffers, unless the device is lost.
    """

    #: These are there after `begin`: the frames of each batch, the form of the results, whether no other
    #: worker can continue the job, and whether another worker needs the model's state for that.
    window: Window
    output: Output
    sequential: bool
    stateful: bool
    #: The form of the results' pixels.
    form: PixelForm

    def __init__(
        self, thread: DeviceThread, runner: ModelRunner, check: Callable[[], None], stages: Stages
    ) -> None:
        self._thread = thread
        self._runner = runner
        self._check = check
        self._stages = stages
        self._buffers = runner.buffers()

    @property
    def device(self) -> str:
        """The kind of the device: "cuda" or "cpu"."""
        return self._runner.device.partition(":")[0]

    def begin(self, header: ClipHeader, options: Options) -> None:
        """Start the model on the clip, after blank batches: see `ModelRunner.prepare`."""
        converter = self._runner.converter(header.form, header.colours.matrix)
        prepare = partial(self._runner.prepare, header.clip, options, self._buffers, self._stages, converter)
        self._pass, self.window = self._call(prepare)
        self.output, self.sequential = self._pass.output, self._pass.sequential
        self.stateful = self._pass.stateful
        self.form = PixelForm.PLANES if converter else PixelForm.RGB

    def buffer(self, shape: tuple[int, ...]) -> Frames:
        """Allocate a uint8 buffer of this shape on the host, for frames of the clip."""
        return self._call(lambda: self._buffers.allocate(shape).numpy())

    def run(self, frames: Frames, valid: int) -> tuple[Results, float, MemoryReport]:
        """Run a batch as `ModelPass` does. Return its results, its seconds and its memory."""
        return self._call(partial(self._run, frames, valid))

    def save_state(self) -> Callable[[Path], None]:
        """Copy the model's state to the host. Return the function that writes it to a file."""
        return self._call(lambda: self._pass.save_state())

    def restore(self, path: Path) -> None:
        """Continue with the state in the file."""
        self._call(lambda: self._pass.restore(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.submit(self._release)  # and do not wait: a batch of another clip may hang

    def _call(self, function: Callable[[], T]) -> T:
        return self._thread.call(function, self._check)

    def _run(self, frames: Frames, valid: int) -> tuple[Results, float, MemoryReport]:
        with measure(self._runner.device) as meter:
            start = time.perf_counter()
            results = self._pass(frames, valid)
            seconds = time.perf_counter() - start
        return results, seconds, meter.report

    def _release(self) -> None:
        vars(self).pop("_pass", None)
        self._runner.release(self._buffers)
