"""Runs video jobs: a clip through the pipeline, and its batches into the job's log."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from fractions import Fraction
from threading import Event, Lock, Timer
from typing import Any

from worker.jobs.errors import (
    EngineDied,
    EngineFailed,
    JobFailed,
    MediaUnavailable,
    ModelFailed,
)
from worker.jobs.events import Batch, Canceled, Progress, Succeeded
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.segments import Segments
from worker.jobs.media.files import RECORDS, VIDEO, JobFiles, Media
from worker.jobs.media.open import open_media_store
from worker.jobs.records import Record
from worker.jobs.settings import Settings
from worker.runs.run import Run
from worker.video.boards import OwnerBoard
from worker.video.increments import batch_increments, stage_increments
from worker.video.job_request import job_request
from worker.video.pipeline import VideoPipeline
from worker.video.publisher import RETRY, Publisher, StoreRetry, retry_while_unavailable
from worker.video.request import BatchDone, PipelineCanceled, VideoResult
from worker.video.stages import Stages
from worker.video.video_helper import VideoHelper

__all__ = ["VideoRunner"]

log = logging.getLogger(__name__)

#: Seconds that a clip may go on after it was told to stop. This is far longer than a batch, or the join of a
#: long clip, takes.
HANG_S = 300.0
#: Seconds that a run waits for Redis to say whether the job is canceled. Without an answer it goes on.
LEDGER_WAIT_S = 1.0
#: The longest text of records that an event carries. Longer ones are in the result only.
MAX_RECORDS_CHARS = 16_384
#: So many jobs in a row that the model fails end the worker, because the model may be broken.
MAX_MODEL_FAILURES = 3


class VideoRunner:
    """Runner of video jobs, `slots` clips at once. Each has a thread of the lane.

    `media` is by default the media store of the settings. `store_retry` applies when it is not available.
    `hang_s` is the time in seconds after which a clip that was told to stop counts as hanging. Workers with a
    `ledger` share clips, unless the settings turn it off.
    """

    engine_name = "torch"
    starts_unclaimed = False
    adapters = ()
    context_length = None
    prompt = None
    sampling = None
    engine_stats = None

    @property
    def parameters(self) -> Mapping[str, Any] | None:
        """The JSON schema of the model's options."""
        return self._pipeline.parameters

    def __init__(
        self,
        pipeline: VideoPipeline,
        settings: Settings,
        *,
        slots: int = 1,
        media: Media | None = None,
        store_retry: StoreRetry = RETRY,
        hang_s: float = HANG_S,
        ledger: Ledger | None = None,
    ) -> None:
        self.slots = slots
        self._pipeline = pipeline
        self._settings = settings
        self._store_retry = store_retry
        self._hang_s = hang_s
        self._media = media or open_media_store(settings)
        #: The number of jobs in a row that the model has failed. The lock guards it.
        self._model_failures, self._lock = 0, Lock()
        self._ledger = ledger if settings.video_help else None
        self._helper = (
            VideoHelper(pipeline, self._ledger, self._media, hang_s, lambda error: self._on_broken(error))
            if self._ledger
            else None
        )

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Load the model and warm it up.

        `on_broken` is called, from any thread, with the `EngineDied` after which no clip can run.
        """
        self._on_broken = on_broken
        self._pipeline.load()

    def run_job(self, run: Run) -> None:
        """Run the clip until the job has a final state or the attempt has lost the job.

        The finished segments are removed only after the ledger has stored the final state. If this attempt
        loses the job before, the next attempt may already use them.
        """
        files, stages = self._media.files(run.record.id), Stages()
        try:
            with ExitStack() as stack:
                with stages.busy("store"):
                    retry_while_unavailable(
                        run, lambda: stack.enter_context(files.checked_out()), self._store_retry
                    )
                publisher = stack.enter_context(Publisher(run, files, self._store_retry, stages))
                with self._watched(run):
                    self._attempt(run, files, publisher, stages)
        except PipelineCanceled:
            run.emit(Canceled())
        except EngineDied as error:
            self._on_broken(error)  # the worker requeues the job and exits
        except JobFailed as error:
            run.fail(error.code, str(error))
            with self._lock:
                self._model_failures += isinstance(error, ModelFailed)
        except Exception:
            log.exception("the video engine has met an error of its own")
            run.fail(
                EngineFailed.code, "the video engine met an error of its own; the worker's log says which"
            )
        run.over.wait()
        try:
            if run.outcome != "abandoned":
                files.remove_work()
            if run.outcome in ("failed", "canceled"):
                files.remove_result()  # an earlier attempt may have been killed just after it published one
        except MediaUnavailable:
            log.warning("the media store is away; recovery removes the files later")
        if self._model_failures >= MAX_MODEL_FAILURES:  # only now, because the worker stops all runs
            self._on_broken(EngineDied(f"the model has failed {self._model_failures} jobs in a row"))

    def is_wanted(self, queue: str) -> bool:
        """Return whether this worker may help with a job, as `worker.lane.helping.Helper` says."""
        return self._helper is not None and self._helper.is_wanted(queue)

    def help(self, queue: str, worker: str, device: str, go_on: Callable[[], bool], stopping: Event) -> bool:
        """Help with another worker's job, as `worker.lane.helping.Helper` says."""
        try:
            return self._helper is not None and self._helper.help(queue, worker, device, go_on, stopping)
        except EngineDied as error:
            self._on_broken(error)
            return False

    def stop(self) -> None:
        """Release the model and end its thread."""
        self._pipeline.close()

    @contextmanager
    def _watched(self, run: Run) -> Iterator[None]:
        """Report a broken engine if the block still runs `hang_s` seconds after the run was told to stop."""
        hangs = EngineDied(f"the device still runs a clip that was told to stop {self._hang_s:.0f} s ago")
        watch = Timer(self._hang_s, self._on_broken, [hangs])
        watch.daemon = True
        run.on_stop = watch.start
        try:
            yield
        finally:
            watch.cancel()

    def _attempt(self, run: Run, files: JobFiles, publisher: Publisher, stages: Stages) -> None:
        """Run the clip."""
        request = job_request(run.record, files, publisher, stages, self._board(run, files))
        if not request.source.exists():
            raise MediaUnavailable("The clip is not in this worker's media store: is it the API's?")

        def on_batch(batch: BatchDone) -> None:
            progress = Progress(batch.done, batch.total, "frames")
            increments = batch_increments(run.record.queue, batch, stages.take())
            fields = {"done": batch.done, "total": batch.total, "stages": _stages(run, stages)}
            run.emit(_batch(batch, run.record), progress, increments=increments, **fields)

        def canceled() -> bool:
            wait([run.emit()], LEDGER_WAIT_S)  # its reply sets `run.stopping` if the job was canceled or lost
            return run.stopping.is_set()

        result = self._pipeline.run_clip(request, on_batch=on_batch, canceled=canceled)
        succeeded = _succeeded(result)
        with self._lock:
            self._model_failures = 0
        rest = stage_increments(run.record.queue, stages.take())
        fields = {"usage": succeeded.usage, "result": succeeded.result, "stages": _stages(run, stages)}
        run.emit(succeeded, increments=rest, **fields)

    def _board(self, run: Run, files: JobFiles) -> OwnerBoard | None:
        return OwnerBoard(Segments(self._ledger.store), run.record, files) if self._ledger else None


def _stages(run: Run, stages: Stages) -> dict[str, Any]:
    """Return the busy seconds of the stages in each attempt so far, for the job's spans."""
    return {**run.record.stages, str(run.record.attempt): stages.taken}


def _batch(batch: BatchDone, record: Record) -> Batch:
    """Return the event of the batch. It has the records if they are small."""
    records = None if batch.records is None else [dict(record) for record in batch.records]
    if records and len(json.dumps(records)) > MAX_RECORDS_CHARS:
        records = None
    memory = asdict(batch.memory)
    worker, device = (batch.worker, batch.device) if batch.worker else (record.worker, record.device)
    return Batch(batch.index, batch.frames, batch.padded, batch.seconds, memory, records, worker, device)


def _succeeded(result: VideoResult) -> Succeeded:
    rate = Fraction(result.rate)
    video = result.kind == "video"
    return Succeeded(
        result={
            "frames": result.results,
            "concealed": result.concealed,
            "width": result.width,
            "height": result.height,
            "frame_rate": f"{rate.numerator}/{rate.denominator}",
            "duration_s": round(result.duration_s, 3),
            "bytes": result.bytes,
            "content_type": VIDEO if video else RECORDS,
            **(result.tracks.to_json() if video else {}),
        },
        usage={
            "frames": result.frames,
            "batches": result.batches,
            "padded_frames": result.padded,
            "seconds": round(result.seconds, 3),
            "decoder": result.decoder,
        },
    )
