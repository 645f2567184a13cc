"""Publishes what a run has finished, and bears that the media store is away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.jobs.errors import MediaUnavailable
from worker.jobs.media.files import JobFiles
from worker.runs.run import Run
from worker.video.request import Canceled

__all__ = ["Publisher", "patiently"]

log = logging.getLogger(__name__)

#: How long a run puts up with a media store that is away, and how long it waits before it tries again.
WAIT_S, PAUSE_S = 60.0, 2.0


def patiently(run: Run, step: Callable[[], None]) -> None:
    """Take the step; again, for a while, if the media store is away. Raises `Canceled` if the run stops."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return step()
        except MediaUnavailable as error:
            if time.monotonic() > end:
                raise
            log.warning("job %s: %s", run.record.id, error)
        if run.stopping.wait(PAUSE_S):
            raise Canceled


class Publisher:
    """Lets a run's finished files appear under their names, for all others too; one after the other.

    Where that takes long the next attempt's files go in a thread of their own, for the encoder must not wait:
    what becomes of one comes out of the next call. The result is there when its call returns. A context
    manager: it waits for its thread.
    """

    def __init__(self, run: Run, files: JobFiles) -> None:
        self._run = run
        self._files = files
        self._thread = ThreadPoolExecutor(1, "publisher")
        self._last: Future[None] | None = None

    def __call__(self, partial: Path, target: Path) -> None:
        """Raises `MediaUnavailable`, `Canceled`, OSError."""
        if self._last:
            self._last.result()
        if self._files.remote and target != self._files.result:
            self._last = self._thread.submit(self._publish, partial, target)
        else:
            self._publish(partial, target)

    def _publish(self, partial: Path, target: Path) -> None:
        patiently(self._run, lambda: self._files.publish(partial, target))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
