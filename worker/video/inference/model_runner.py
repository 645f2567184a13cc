"""Runs a model on its device: warms it up, and begins its jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction

import torch

from worker.devices import memory
from worker.jobs.errors import BadVideo, InvalidOptions, ModelFailed, OutOfMemory
from worker.jobs.limits import DEFAULTS, ClipSize, Limits
from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.tags import Matrix
from worker.video.decoding.reader import Window
from worker.video.inference.buffers import Buffers
from worker.video.inference.model_pass import ModelPass, call_model
from worker.video.inference.option_variants import choices, variants
from worker.video.inference.plane_converter import PlaneConverter
from worker.video.model import Clip, FrameModel, Options, Output
from worker.video.stages import Stages

__all__ = ["SMALL", "WARM_UP_BATCHES", "ModelRunner", "first_line"]

log = logging.getLogger(__name__)

#: Blank batches for new options and a new size. In the first, cuDNN tries its algorithms. In the second,
#: torch records CUDA graphs. From the third on, all batches run alike.
WARM_UP_BATCHES = 3
#: Height and width of the first blank frames after loading, in pixels.
SMALL = 64


class ModelRunner:
    """A model on its device, for batches of `batch_size` frames.

    On a GPU all methods but `buffers` must be called from one thread: cuDNN keeps the results of its trials
    for the thread that made them, and a CUDA graph belongs to the thread that recorded it.

    `warm_up_per_clip` says whether `prepare` runs blank batches. `planes` says whether the device converts
    between planes and RGB, and not the sandbox and the encoder. By default both happen on a GPU only.
    """

    def __init__(
        self,
        model: FrameModel,
        device: str,
        batch_size: int,
        *,
        limits: Limits = DEFAULTS,
        warm_up_per_clip: bool | None = None,
        planes: bool | None = None,
    ) -> None:
        self.model = model
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._limits = limits
        self._on_gpu = self._device.type == "cuda"
        self._warm_up_per_clip = self._on_gpu if warm_up_per_clip is None else warm_up_per_clip
        self.planes = self._on_gpu if planes is None else planes
        self._warm: set[tuple[object, ...]] = set()
        #: The buffers of the running jobs. They must stay allocated if the device is lost: torch would abort
        #: the process if it had to free pinned memory then.
        self._buffers: set[Buffers] = set()
        if self._on_gpu:
            torch.backends.cudnn.benchmark = True

    @property
    def device(self) -> str:
        """The torch device."""
        return str(self._device)

    def converter(
        self, form: PixelForm = PixelForm.PLANES, matrix: int = Matrix.BT709
    ) -> PlaneConverter | None:
        """Return the converter for a clip of this form and matrix, or None if the device converts nothing."""
        return PlaneConverter(matrix, form) if self.planes else None

    def buffers(self) -> Buffers:
        """Return the buffers of a new job, which has none yet. They stay until `release`."""
        buffers = Buffers(pinned=self._on_gpu)
        self._buffers.add(buffers)
        return buffers

    def release(self, buffers: Buffers) -> None:
        """Release the buffers of a job that has ended, and the results that lie in them."""
        buffers.release()
        self._buffers.discard(buffers)

    def warm_up(self, sizes: Iterable[ClipSize]) -> None:
        """Run a small blank batch, which compiles the model if that is requested, and warm up for `sizes`.

        A CPU has no algorithms to choose and no memory to reserve for a size, so it runs the small batch
        only. The runner skips a size that the model refuses, or for which the memory does not suffice. If
        options have no default values, the model cannot be warmed up before its first job.
        """
        every, buffers = list(variants(self.model.Options)), self.buffers()
        if every:
            with suppress(InvalidOptions):  # the model refuses clips of this size
                self._run_blank(_blank_clip(SMALL, SMALL), every[0], buffers, self.converter(), 1)
        for size in sizes if self._warm_up_per_clip else ():
            try:
                for options in every:
                    buffers.release()
                    clip = _blank_clip(size.width, size.height)
                    self.prepare(clip, options, buffers, converter=self.converter())
            except Exception as error:
                if not isinstance(error, InvalidOptions | OutOfMemory) and not memory.is_shortage(error):
                    raise
                log.warning("cannot warm up for clips of %dx%d: %s", *size, first_line(error))
        self.release(buffers)

    def prepare(
        self,
        clip: Clip,
        options: Options,
        buffers: Buffers,
        stages: Stages | None = None,
        converter: PlaneConverter | None = None,
    ) -> tuple[ModelPass, Window]:
        """Begin a job: return its way through the model, and the frames that each of its batches has.

        Its results lie in `buffers`. `stages` gets the seconds of its batches. `converter` is the one for the
        clip's frames.

        Before the job, blank batches run through the same steps: three for new options or a new size, one
        for known ones, because the allocator may have given that memory to another size meanwhile.
        """
        if self._warm_up_per_clip:
            key = clip.width, clip.height, _form(converter), *choices(options)
            batches = 1 if key in self._warm else WARM_UP_BATCHES
            self._run_blank(clip, options, buffers, converter, batches)
            self._warm.add(key)
            buffers.release()
        return self._begin(clip, options, buffers, stages or Stages(), converter)

    def _begin(
        self,
        clip: Clip,
        options: Options,
        buffers: Buffers,
        stages: Stages,
        converter: PlaneConverter | None,
    ) -> tuple[ModelPass, Window]:
        output = self._output(clip, options)
        window = self._window(output)
        height, width = output.height or clip.height, output.width or clip.width
        form = PixelForm.PLANES if converter else PixelForm.RGB
        shape = (output.count(window.size), *form.shape(width, height))
        host = buffers.allocate(shape) if self._on_gpu and output.kind == "video" else None
        through = call_model(self.model.start, clip, options)
        sequential = getattr(self.model, "sequential", False)
        args = clip, output, window, self._device, host, stages, converter
        model_pass = ModelPass(through, *args, sequential=sequential)
        model_pass.check()
        return model_pass, window

    def _output(self, clip: Clip, options: Options) -> Output:
        """Return the form of the results. Raises `ModelFailed`, and `BadVideo` if they are too large."""
        output = call_model(self.model.output, clip, options)
        if not isinstance(output, Output):
            raise ModelFailed(f"output returned a {type(output).__name__} instead of an Output")
        width, height = output.width or clip.width, output.height or clip.height
        size = f"{width}x{height} pixels"
        if min(width, height) < 2 or width % 2 or height % 2:
            raise ModelFailed(f"results cannot have {size}: both must be even")
        if min(output.per) < 1:
            raise ModelFailed(f"there cannot be {output.per[0]} results for {output.per[1]} frames")
        if output.kind == "records" and output != Output("records"):
            raise ModelFailed("records have no size and come one for each frame")
        if width * height > self._limits.max_pixels:
            raise BadVideo(f"The result would have {size}, which is more than STOKER_MAX_PIXELS.")
        return output

    def _window(self, output: Output) -> Window:
        """Return the frames of each batch. A batch is as long as its neighbours, and has whole groups."""
        before, after = getattr(self.model, "before", 0), getattr(self.model, "after", 0)
        groups = -(-max(self._batch_size, before, after) // output.per[1])
        return Window(groups * output.per[1], before, after, ahead=after > 0 or output.per[0] > 1)

    def _run_blank(
        self,
        clip: Clip,
        options: Options,
        buffers: Buffers,
        converter: PlaneConverter | None,
        batches: int,
    ) -> None:
        """Run blank batches through a job of their own, so that they leave no traces in the next one."""
        through, window = self._begin(clip, options, buffers, Stages(), converter)
        form = _form(converter)
        blank = buffers.allocate((window.frames, *form.shape(clip.width, clip.height))).numpy()
        form.blacken(blank)
        for _ in range(batches):
            through(blank, 0)


def _form(converter: PlaneConverter | None) -> PixelForm:
    """Return the form of a clip's frames."""
    return converter.form if converter else PixelForm.RGB


def _blank_clip(width: int, height: int) -> Clip:
    return Clip(width, height, Fraction(25), None)


def first_line(error: BaseException) -> str:
    """Return the first line of the error, or of the one that caused it."""
    return str(error.__cause__ or error).partition("\n")[0]
