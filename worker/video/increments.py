"""The increments of metrics that are logged together with the events of a video job."""

from __future__ import annotations

from collections.abc import Mapping

from worker.jobs.metrics.metric import Increments
from worker.jobs.metrics.video import BATCHES, FRAMES, PADDED_FRAMES, STAGE_SECONDS, Stage
from worker.video.request import BatchDone

__all__ = ["batch_increments", "stage_increments"]


def stage_increments(queue: str, seconds: Mapping[Stage, float]) -> Increments:
    """Return the increments for the busy seconds of each stage."""
    increments = Increments()
    for stage, busy_s in seconds.items():
        increments.count(STAGE_SECONDS, queue, stage, by=busy_s)
    return increments


def batch_increments(queue: str, batch: BatchDone, seconds: Mapping[Stage, float]) -> Increments:
    """Return the increments for a batch, and for the busy seconds of each stage since the batch before."""
    increments = stage_increments(queue, seconds)
    increments.count(FRAMES, queue, by=batch.frames)
    increments.count(PADDED_FRAMES, queue, by=batch.padded)
    increments.count(BATCHES, queue)
    return increments
