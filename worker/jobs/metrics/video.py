"""The metrics of videos, which workers raise together with the events of batches."""

from typing import Literal

from worker.jobs.metrics.metric import MICROSECONDS, Counter

__all__ = ["BATCHES", "FRAMES", "PADDED_FRAMES", "STAGE_SECONDS", "VIDEO_METRICS", "Stage"]

QUEUE = ("queue",)

#: - `decode`: the clip is read, and its frames arrive in the worker.
#: - `copy`: frames go to the device, and results come back.
#: - `model`: the rest of the time from the frames on the host to the results there.
#: - `encode`: results are encoded into segments.
#: - `store`: the media store gives the clip and gets finished files, and segments are joined.
Stage = Literal["decode", "copy", "model", "encode", "store"]

FRAMES = Counter("stoker_video_frames_total", "Frames of clips that went through the model.", QUEUE)
PADDED_FRAMES = Counter(
    "stoker_video_padded_frames_total", "Frames that filled the last batch of a clip.", QUEUE
)
BATCHES = Counter("stoker_video_batches_total", "Batches that went through the model.", QUEUE)
STAGE_SECONDS = Counter(
    "stoker_video_seconds_total",
    "Seconds in which a stage of the pipeline was busy. Stages overlap.",
    ("queue", "stage"),
    MICROSECONDS,
)

VIDEO_METRICS = (FRAMES, PADDED_FRAMES, BATCHES, STAGE_SECONDS)
