"""The interface of the video pipeline: its request, its report of each batch, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from worker.devices.memory import MemoryReport
from worker.jobs.media.durable import publish
from worker.video.decoding.options import READ_DEFAULTS, ReadOptions
from worker.video.inference.padding import Pad
from worker.video.share_plan import ShareBoard
from worker.video.stages import Stages
from worker.video.tracks.report import TracksReport

__all__ = ["BatchDone", "PipelineCanceled", "VideoRequest", "VideoResult"]


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A request to run the model on the clip `source` and write the result to `target`.

    - `target`: the path of a video. Records go to the same path with the suffix `.ndjson`.
    - `work`: a folder on the file system of `target`. It keeps finished segments for the next run. The caller
      removes it once the job has ended.
    - `options`: the model's options as JSON values, except for those that are files.
    - `uploads`: the files of the other options, by the names of the options.
    - `pad`: the content of the padding in the last batch.
    - `reading`: how the frames are read.
    - `done`: the number of frames that earlier runs have reported. Of these, frames in a finished segment are
      not processed again.
    - `publish`: a function that moves a finished file (of `work`, or the result) to its final name and makes
      it available to other workers. It adds its seconds to the stage `store` itself.
    - `stages`: gets the seconds of all other stages, and those in which segments are joined.
    - `board`: who computes which segment, if other workers may help.
    """

    source: Path
    target: Path
    work: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    uploads: Mapping[str, Path] = field(default_factory=dict)
    pad: Pad = "last"
    reading: ReadOptions = READ_DEFAULTS
    done: int = 0
    publish: Callable[[Path, Path], None] = publish
    stages: Stages = field(default_factory=Stages)
    board: ShareBoard | None = None

    def target_of(self, kind: Literal["video", "records"]) -> Path:
        """Return the path of a result of this kind."""
        return self.target if kind == "video" else self.target.with_suffix(".ndjson")


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A report of one batch: `frames` real frames and `padded` added ones went through the model.

    `done` frames of the clip are finished after it, including those of earlier runs. `total` is the number of
    frames that the clip's container states, or None. `seconds` is the time from the frames on the host to the
    results on the host. `records` are the results, unless they are frames. `worker` has run the batch on
    `device`. They are None for a batch of this worker.
    """

    index: int
    frames: int
    padded: int
    done: int
    total: int | None
    seconds: float
    memory: MemoryReport
    records: Sequence[Mapping[str, Any]] | None = None
    worker: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class VideoResult:
    """Properties of the result and of the work for it.

    `width` and `height` are in pixels, `rate` in frames per second: of the resulting video or, if the results
    are records, of the clip. The frames are shown for `duration_s` seconds; `bytes` is the size of the file.
    `results` frames or records are in it. `frames` of the clip and `batches` count each one once, whichever
    run processed it. `padded` frames went through the model but have no results. `concealed` frames of the
    clip were damaged or lost. `seconds` is the duration of this run. `decoder` has decoded the clip: "nvdec"
    or "libav". `tracks` says what happened to the clip's sound and subtitles.
    """

    kind: Literal["video", "records"]
    results: int
    frames: int
    width: int
    height: int
    rate: Fraction
    duration_s: float
    batches: int
    padded: int
    concealed: int
    bytes: int
    seconds: float
    decoder: str = "libav"
    tracks: TracksReport = field(default_factory=TracksReport)


class PipelineCanceled(Exception):
    """The job was canceled, or is not this run's any more. The result was not written."""
