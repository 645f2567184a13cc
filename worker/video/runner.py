"""Video runs: a job's clip through the pipeline, its batches into the job's log."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from threading import Timer

from worker.jobs.errors import (
    BadVideo,
    EngineDied,
    EngineFailed,
    InvalidInput,
    JobFailed,
    MediaUnavailable,
)
from worker.jobs.events import Batch, Canceled, Progress, Succeeded
from worker.jobs.media.files import JobFiles
from worker.jobs.media.open import open_media_store
from worker.jobs.media.probe import probe
from worker.jobs.settings import Settings
from worker.jobs.specs import VideoJob
from worker.runs.run import Run
from worker.video import request
from worker.video.inference.device_thread import DeviceThread
from worker.video.pipeline import VideoPipeline
from worker.video.publisher import Publisher, patiently
from worker.video.request import BatchDone, VideoRequest, VideoResult

__all__ = ["VideoRunner"]

log = logging.getLogger(__name__)

#: How long a clip that must stop may go on: far longer than a batch takes, or joining a long clip.
HANG_S = 300.0
#: How long a run waits to hear whether it may go on, when Redis does not answer.
LEDGER_WAIT_S = 1.0


class VideoRunner:
    """Runs one clip at a time."""

    slots = 1
    engine_name = "torch"
    context_length = None
    prompt = None

    def __init__(self, video: VideoPipeline, settings: Settings) -> None:
        self._pipeline = video
        self._settings = settings
        self._media = open_media_store(settings)
        self._device = DeviceThread("video")

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Load the model and warm it up, in the thread that all clips are then made in."""
        self._on_broken = on_broken
        self._device.call(self._pipeline.load)

    def run_job(self, run: Run) -> None:
        """Run the clip to its end, good or bad.

        What a next attempt would go on with is removed once the ledger has the end, and not before: if this
        attempt is taken away there is another one, which may be using it already.
        """
        files = self._media.files(run.record.id)
        try:
            with ExitStack() as stack:
                patiently(run, lambda: stack.enter_context(files.checked_out()))
                publisher = stack.enter_context(Publisher(run, files))
                with self._watched(run):
                    self._device.call(lambda: self._attempt(run, files, publisher))
        except request.Canceled:
            run.emit(Canceled())
        except EngineDied as error:
            self._on_broken(error)  # the worker ends, and hands the job back
        except JobFailed as error:
            run.fail(error.code, str(error))
        except Exception:
            log.exception("job %s", run.record.id)
            run.fail(
                EngineFailed.code, "the video engine met an error of its own; the worker's log says which"
            )
        run.over.wait()
        try:
            if run.outcome != "abandoned":
                files.remove_work()
            if run.outcome in ("failed", "canceled"):
                files.remove_result()  # of an attempt that was killed before it could say so
        except MediaUnavailable:
            log.warning("job %s: recovery removes what is left of it", run.record.id)

    def stop(self) -> None:
        """Let go of the model."""
        self._pipeline.close()
        self._device.stop()

    @contextmanager
    def _watched(self, run: Run) -> Iterator[None]:
        """End the worker if the clip goes on for too long after it was to stop."""
        hangs = EngineDied(f"the device has not come back from a clip that was to stop {HANG_S:.0f} s ago")
        watch = Timer(HANG_S, self._on_broken, [hangs])
        watch.daemon = True
        run.on_stop = watch.start
        try:
            yield
        finally:
            watch.cancel()

    def _attempt(self, run: Run, files: JobFiles, publisher: Publisher) -> None:
        wanted = self._request(run, files, publisher)
        total = self._frames(wanted.source)

        def on_batch(batch: BatchDone) -> None:
            event = Batch(batch.index, batch.frames, batch.padded, batch.seconds, asdict(batch.memory))
            run.emit(event, Progress(batch.done, total, "frames"), done=batch.done, total=total)

        def canceled() -> bool:
            run.emit()  # the answer says whether the job is still this attempt's
            run.wait_logged(LEDGER_WAIT_S)
            return run.stopping.is_set()

        succeeded = _succeeded(self._pipeline.run(wanted, on_batch=on_batch, canceled=canceled))
        run.emit(succeeded, usage=succeeded.usage, result=succeeded.result)

    def _frames(self, clip: Path) -> int | None:
        """How many frames the clip says it has. Raises BadVideo: this worker may allow less than the API."""
        try:
            return probe(clip, self._settings.limits).frames
        except InvalidInput as error:
            raise BadVideo(str(error)) from error
        except FileNotFoundError as error:
            reason = "The clip is not in this worker's media store: is it the API's?"
            raise MediaUnavailable(reason) from error

    def _request(self, run: Run, files: JobFiles, publisher: Publisher) -> VideoRequest:
        spec = run.record.spec
        if not isinstance(spec, VideoJob):
            raise TypeError(f"{run.record.id} is not a video")
        return VideoRequest(
            source=files.clip,
            target=files.result,
            work=files.work,
            effect=spec.effect,
            background=files.background if spec.background_image else _rgb(spec.background),
            pad=spec.pad,
            done=run.record.done,
            publish=publisher,
        )


def _rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three bytes."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _succeeded(result: VideoResult) -> Succeeded:
    rate = Fraction(result.rate)
    return Succeeded(
        result={
            "frames": result.frames,
            "width": result.width,
            "height": result.height,
            "frame_rate": f"{rate.numerator}/{rate.denominator}",
            "bytes": result.bytes,
            "content_type": "video/mp4",
        },
        usage={
            "frames": result.frames,
            "batches": result.batches,
            "padded_frames": result.padded,
            "seconds": round(result.seconds, 3),
        },
    )
