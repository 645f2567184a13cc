"""What is asked of the video pipeline, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from worker.devices.memory import MemoryReport
from worker.jobs.media.durable import publish
from worker.video.inference.padding import Pad

if TYPE_CHECKING:  # torch comes in only after the device has been pinned
    from worker.video.inference.composite import Effect


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A clip, where the result goes, and what to do: the background is an RGB colour or an image file.

    The folder `work`, on the result's file system, keeps what is done for a next run; whoever knows that the
    job has ended removes it. `done` frames have been reported by earlier runs: those of them that are kept
    are not done again. `publish` lets a finished file of `work`, or the result, appear under its name, also
    for others.
    """

    source: Path
    target: Path
    work: Path
    effect: Effect
    background: tuple[int, int, int] | Path = (0, 255, 0)
    pad: Pad = "last"
    done: int = 0
    publish: Callable[[Path, Path], None] = publish


@dataclass(frozen=True, slots=True)
class BatchDone:
    """One batch went through the model: `frames` real ones, filled up with `padded` others.

    `done` frames of the clip are done with it, those of earlier runs among them; `seconds` are from its
    frames to its results, on the host both.
    """

    index: int
    frames: int
    padded: int
    done: int
    seconds: float
    memory: MemoryReport


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What was written: `rate` in frames a second, `bytes` the file's size; `padded` frames are not in it.

    Frames and batches count once, whichever run did them; `seconds` are this run's.
    """

    frames: int
    width: int
    height: int
    rate: Fraction
    batches: int
    padded: int
    bytes: int
    seconds: float


class Canceled(Exception):
    """`canceled()` turned true, and the result was not written."""
