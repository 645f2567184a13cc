"""The pipeline of a video job: read, pad, run the model, encode in batches, and join."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from worker.devices.memory import free
from worker.jobs.errors import EngineDied, EngineFailed, JobFailed, ModelFailed, OutOfMemory
from worker.jobs.limits import DEFAULTS, ClipSize, Limits
from worker.video.clip_tasks import ClipTasks
from worker.video.decoding.reader import ClipReader
from worker.video.encoding.encoder_pool import EncoderPool
from worker.video.encoding.result_file import join_segments
from worker.video.encoding.writer import SegmentWriter
from worker.video.inference.device_job import DeviceJob
from worker.video.inference.device_thread import DeviceThread
from worker.video.inference.torch_errors import classify_torch_error
from worker.video.model_options import read_options
from worker.video.models.find import FoundModel
from worker.video.request import BatchDone, PipelineCanceled, VideoRequest, VideoResult
from worker.video.sandbox.sandboxes import Sandboxes
from worker.video.segment_run import SegmentRun
from worker.video.share_plan import ClipPlan, HelpBoard
from worker.video.shared.open_clip import OpenClip
from worker.video.tracks.report import TracksReport

if TYPE_CHECKING:  # `load` imports torch, after the device is pinned
    from worker.video.inference.model_runner import ModelRunner

__all__ = ["VideoPipeline"]

T = TypeVar("T")

log = logging.getLogger(__name__)


class VideoPipeline:
    """A frame model that stays loaded, and the steps around it from clip to result.

    Call `load` before `run_clip`. Several threads may call `run_clip` at once, each for a clip of its own.
    One thread uses the device. It takes a batch of each clip in turn, while the other clips decode and
    encode.

    - `find_model`: finds the model. `load` calls it, because it imports torch, after the device is pinned.
    - `batch_size`: frames per batch. With `pad`, the last batch is filled up to it, so the device sees one
      shape per clip. Only `bench.video` turns `pad` off, to measure what it saves.
    - `segment_batches`: batches per segment. Each finished segment is durable.
    - `sizes`: clip sizes for which a GPU is warmed up by `load`. It warms up for another size and other
      options before the first batch of such a clip.
    - `compiled`: whether torch compiles the model.
    - `warm_up_per_clip`: whether blank batches run before a clip; by default on a GPU only.
    - `encoders`: segments that are encoded at the same time, by default half as many as there are cores.
    - `planes`: whether the device converts between planes and RGB; by default on a GPU only. Else libav does.
    - `nvdec`: the variables of the environment with which sandboxes find the GPU, if it may decode clips.
    - `segment_writer`: the class that receives the results of each batch.
    """

    def __init__(
        self,
        find_model: Callable[[], FoundModel],
        *,
        device: str = "cpu",
        batch_size: int = 16,
        segment_batches: int = 4,
        limits: Limits = DEFAULTS,
        sizes: Sequence[ClipSize] = (),
        compiled: bool = False,
        pad: bool = True,
        warm_up_per_clip: bool | None = None,
        encoders: int | None = None,
        nvdec: Mapping[str, str] | None = None,
        planes: bool | None = None,
        segment_writer: type[SegmentWriter] = SegmentWriter,
    ) -> None:
        self._find_model = find_model
        self._device = device
        self._batch_size = batch_size
        self._segment_batches = segment_batches
        self._limits = limits
        self._sizes = sizes
        self._compiled = compiled
        self._pad = pad
        self._warm_up_per_clip = warm_up_per_clip
        self._encoder_limit = encoders
        self._planes = planes
        self._segment_writer = segment_writer
        self._sandboxes = Sandboxes(ClipTasks.__module__, nvdec)
        self._model_runner: ModelRunner | None = None
        #: The JSON schema of the model's options, after `load`.
        self.parameters: Mapping[str, Any] | None = None

    def load(self) -> None:
        """Load the model and warm it up, and start the process that reads clips.

        Raises `ConfigurationError` if there is no such model, it breaks its contract or cannot be compiled.
        Raises `ModelMissing` if the weights are not this model's.
        """
        self._thread, self._encoders = DeviceThread(), EncoderPool(self._encoder_limit)
        self._thread.call(self._load)
        self.parameters = self._found.model.Options.model_json_schema()
        self._sandboxes.start()

    def run_clip(
        self, request: VideoRequest, *, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        """Process the clip of `request`, except for segments that earlier runs have finished.

        The result appears complete or not at all. The pipeline calls `on_batch` after each batch. It calls
        `canceled` before each batch, before the result gets its name, and every second while it waits for the
        sandbox.

        Raises `PipelineCanceled` if `canceled` returns True. Raises a `JobFailed` (`BadVideo`, `DiskFull`,
        `EngineFailed`, `OutOfMemory`) if this clip fails, and `EngineDied` if no clip can run any more.
        """
        return self._with_clear_errors(lambda: self._run_clip(request, on_batch, canceled))

    def help_clip(
        self, request: VideoRequest, plan: ClipPlan, board: HelpBoard, number: int, check: Callable[[], None]
    ) -> None:
        """Compute this segment of another worker's clip, and others that `board` gives.

        `check` is called before each batch, and raises an error to end early. Raises `CannotHelp` if this
        worker's segments would differ from the owner's, and errors as `run_clip` does.
        """
        self._with_clear_errors(lambda: self._help_clip(request, plan, board, number, check))

    def _with_clear_errors(self, work: Callable[[], T]) -> T:
        """Do the work. Raise an error of the device as a new one, after its memory is free."""
        try:
            return work()
        except Exception as error:
            failure = _failure(error)
            if failure is None:
                raise
            log.warning("the video fails: %s", failure, exc_info=True)
        # Here, because `error` and its traceback, which refer to tensors, are gone now. Later calls of other
        # clips find the memory free, so nobody need wait for it: a batch of another clip may hang.
        self._thread.submit(partial(free, self._device))
        raise failure

    def close(self) -> None:
        """End the process that reads clips, and release the model and its device memory."""
        self._sandboxes.stop()
        self._encoders.close()
        with suppress(EngineDied):  # a lost device has no memory to return
            self._thread.call(self._unload)
        self._thread.stop()

    def _load(self) -> None:
        from worker.video.inference.model_loader import load_model_runner

        self._found = self._find_model()
        self._model_runner = load_model_runner(
            self._found,
            self._device,
            self._batch_size,
            limits=self._limits,
            sizes=self._sizes,
            compiled=self._compiled,
            warm_up_per_clip=self._warm_up_per_clip,
            planes=self._planes,
        )

    def _unload(self) -> None:
        self._model_runner = None
        free(self._device)

    def _run_clip(
        self, request: VideoRequest, on_batch: Callable[[BatchDone], None], canceled: Callable[[], bool]
    ) -> VideoResult:
        began = time.perf_counter()

        def check() -> None:
            if canceled():
                raise PipelineCanceled

        with self._opened(request, check) as clip:
            run, output, sandbox = clip.run, clip.job.output, clip.reader.sandbox
            with run.folder.scratch() as tracks:
                report = TracksReport()
                if output.kind == "video":
                    with request.stages.busy("decode"):
                        report = TracksReport.from_json(sandbox.call("tracks", target=tracks))
                frames, end = clip.process(self._segment_batches, on_batch)
                target = request.target_of(output.kind)
                publish, stages = request.publish, request.stages
                size = join_segments(sandbox, run.folder, output, frames, end, publish, target, stages)
        return run.result(frames, end, size, report, time.perf_counter() - began)

    def _help_clip(
        self, request: VideoRequest, plan: ClipPlan, board: HelpBoard, number: int, check: Callable[[], None]
    ) -> None:
        with self._opened(request, check) as clip:
            clip.help(plan, board, number)

    @contextmanager
    def _opened(self, request: VideoRequest, check: Callable[[], None]) -> Iterator[OpenClip]:
        """Open the clip, and begin its job on the device."""
        if self._model_runner is None:
            raise EngineFailed("the video pipeline has not been loaded")
        with ExitStack() as stack:
            job = stack.enter_context(DeviceJob(self._thread, self._model_runner, check, request.stages))
            reading = replace(request.reading, planes=self._model_runner.planes)

            def open_reader() -> ClipReader:
                sandbox = stack.enter_context(self._sandboxes.sandbox(self._limits, check))
                return ClipReader(sandbox, request.source, options=reading, stages=request.stages)

            reader = open_reader()
            options = read_options(self._found.model.Options, request, reader.sandbox)
            job.begin(reader.header, options)
            run = SegmentRun(request, reader, job, self._found.version, pad=self._pad)
            open_writer = partial(self._segment_writer, encoders=self._encoders, stages=request.stages)
            yield OpenClip(request, reader, job, run, open_reader, open_writer)


def _failure(error: Exception) -> JobFailed | None:
    """Return a new error for one of the model or its device, whose traceback refers to tensors."""
    if isinstance(error, EngineDied | ModelFailed | OutOfMemory):
        return type(error)(*error.args)
    return classify_torch_error(error)
