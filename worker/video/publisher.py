"""Publishes the finished files of a run, and retries while the media store is not available."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.jobs.errors import MediaUnavailable
from worker.jobs.logs.facts import facts, of_job
from worker.jobs.media.files import JobFiles
from worker.runs.run import Run
from worker.video.request import PipelineCanceled
from worker.video.stages import Stages

__all__ = ["RETRY", "Publisher", "StoreRetry", "retry_while_unavailable"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreRetry:
    """Retry policy for a media store that is not available.

    A run retries for `give_up_s` seconds and waits `pause_s` seconds before each retry.
    """

    give_up_s: float = 60.0
    pause_s: float = 2.0


RETRY = StoreRetry()


def retry_while_unavailable(run: Run, step: Callable[[], None], retry: StoreRetry) -> None:
    """Call `step`, and call it again while the media store is not available.

    Raises `MediaUnavailable` if the store is still not available after `retry.give_up_s`, and
    `PipelineCanceled` if the run must stop.
    """
    deadline = time.monotonic() + retry.give_up_s
    while True:
        try:
            return step()
        except MediaUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s", error, extra=facts(**of_job(run.record)))
        if run.stopping.wait(retry.pause_s):
            raise PipelineCanceled


class Publisher:
    """Publisher of a run's finished files, one after the other: it makes them available to all workers.

    With a remote media store, segments are uploaded in a thread, so the encoder does not wait. An error of
    such an upload is raised by the next call. The result is published before its call returns. `stages` gets
    the seconds that it takes.

    It is a context manager. Leaving it waits for the thread.
    """

    def __init__(
        self, run: Run, files: JobFiles, retry: StoreRetry = RETRY, stages: Stages | None = None
    ) -> None:
        self._run = run
        self._stages = stages or Stages()
        self._files = files
        self._retry = retry
        self._thread = ThreadPoolExecutor(1, "publisher")
        self._last: Future[None] | None = None

    def __call__(self, partial: Path, target: Path) -> None:
        """Publish the file `partial` as `target`. Raises `MediaUnavailable`, `PipelineCanceled`, OSError.

        Nothing of a canceled job is published. If the job goes on elsewhere, its segments are useful there.
        """
        if self._run.stopping.is_set() and self._run.outcome != "abandoned":
            raise PipelineCanceled
        if self._last:
            self._last.result()
        if self._files.remote and target.is_relative_to(self._files.work):
            self._last = self._thread.submit(self._publish, partial, target)
        else:
            self._publish(partial, target)

    def _publish(self, partial: Path, target: Path) -> None:
        with self._stages.busy("store"):
            retry_while_unavailable(self._run, lambda: self._files.publish(partial, target), self._retry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
