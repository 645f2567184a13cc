"""Video jobs on a real ledger, with workers that run a stub model in this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.clips import make_clip_with_sound
from tests.support.video.pipeline import make_stub_pipeline
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.media.files import JobFiles, Media
from worker.jobs.specs import VideoJob, validate
from worker.runs.outbox import Outbox
from worker.runs.run import Run
from worker.video.pipeline import VideoPipeline
from worker.video.publisher import RETRY, StoreRetry
from worker.video.runner import HANG_S, VideoRunner

WAIT_S = 20.0


class Hold:
    """A hook for the model: it holds the model at call number `at` until `go_on` is set."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, call: int) -> None:
        if call == self._at:
            self.reached.set()
            assert self.go_on.wait(WAIT_S)


class VideoHarness:
    """A ledger with video jobs of 25 frames, and workers for them. `pipeline` makes that of each worker.

    The tests use batches of 3 frames and segments of 2 batches, so a job has 9 batches.
    """

    def __init__(
        self,
        ledger: Ledger,
        pipeline: Callable[[], VideoPipeline],
        model: StubVideoModel,
        store_retry: StoreRetry = RETRY,
    ) -> None:
        self.ledger = ledger
        self.model = model
        self.store_retry = store_retry
        self.outbox = Outbox(Dispatcher(ledger.store))
        self.outbox.start()
        self._pipeline = pipeline
        self.runners: list[VideoRunner] = []
        self.broken: list[BaseException] = []
        self.runner = self.worker()

    def worker(
        self,
        *,
        slots: int = 1,
        hang_s: float = HANG_S,
        media: Media | None = None,
        store_retry: StoreRetry | None = None,
        ledger: Ledger | None = None,
        **settings: object,
    ) -> VideoRunner:
        """Return the started runner of another worker."""
        runner = VideoRunner(
            self._pipeline(),
            self.ledger.store.settings.replace(**settings),
            slots=slots,
            media=media,
            store_retry=store_retry or self.store_retry,
            hang_s=hang_s,
            ledger=ledger,
        )
        runner.start(self.broken.append)
        self.runners.append(runner)
        return runner

    def stop(self) -> None:
        """Stop the outbox and all workers."""
        self.outbox.stop(WAIT_S)
        for runner in self.runners:
            runner.stop()

    def submit(self, job_id: str, **fields: object) -> JobFiles:
        files = JobFiles.at(self.ledger.store.settings.media_dir, job_id)
        files.folder.mkdir(parents=True)
        self.write_clip(files)
        self.ledger.submit(job_id, "video.stub", validate(VideoJob, {"effect": "matte", **fields}))
        return files

    def write_clip(self, files: JobFiles) -> Path:
        return make_clip_with_sound(files.folder / "clip.mp4", "aac").rename(files.clip)

    def claim(self, job_id: str, worker: str = "w") -> Run:
        record = self.ledger.claim(job_id, worker, "cpu")
        assert record is not None
        return Run(record, self.outbox)

    def start(self, run: Run, runner: VideoRunner | None = None) -> threading.Thread:
        """Run the job in a thread, on another worker if no runner is given."""
        thread = threading.Thread(target=(runner or self.worker()).run_job, args=(run,))
        thread.start()
        return thread

    def hand_back(self, job_id: str, call: int) -> None:
        """Run the job up to that call of the model. Meanwhile its worker drains and requeues it."""
        run, hold = self.claim(job_id), Hold(call)
        self.model.on_call = hold
        thread = self.start(run)
        assert hold.reached.wait(WAIT_S)
        run.abandon()
        self.ledger.requeue(job_id, "w", "drain")
        hold.go_on.set()
        thread.join(WAIT_S)

    def batches(self, job_id: str, attempt: int) -> list[int]:
        """Return the indices in the attempt's `batch` events."""
        return [e.data["index"] for e in self._events(job_id, attempt) if e.type == "batch"]

    def progress(self, job_id: str, attempt: int) -> list[int]:
        """Return the numbers of frames in the attempt's `progress` events."""
        return [e.data["done"] for e in self._events(job_id, attempt) if e.type == "progress"]

    def _events(self, job_id: str, attempt: int) -> list[LoggedEvent]:
        return [event for event in self.ledger.events(job_id) if event.data["attempt"] == attempt]


@contextmanager
def video_harness(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[VideoHarness]:
    """Yield a harness with batches of 3 frames and segments of 2 batches. Stop it at the end.

    `options` go to the pipelines.
    """
    model = StubVideoModel()
    harness = VideoHarness(ledger, lambda: make_stub_pipeline(model, 3, 2, **options), model)
    yield harness
    harness.stop()
