"""The batches of the first clip of a newly loaded pipeline: their times and memory."""

import statistics
from collections.abc import Callable
from pathlib import Path

from bench.video_programs import VideoTask, run_pipeline
from webapi.documents.plot import Column, Line, Panel, draw
from worker.devices.memory import free
from worker.video.request import BatchDone

__all__ = ["describe", "plot", "run_first_clip"]


def run_first_clip(task: VideoTask, pad: bool, folder: Path) -> list[BatchDone]:
    """Run the clip in a new pipeline and return its batches.

    The allocator's memory is freed, and the pipeline's thread is new, so that neither the device nor cuDNN,
    which keeps its plans per thread, knows the size of the clip.
    """
    free(task.device)
    pipeline = task.load_pipeline(pad)
    batches = run_pipeline(pipeline, task.request(folder))
    pipeline.close()
    return batches


def describe(label: str, batches: list[BatchDone]) -> None:
    """Print the times and the memory of these batches."""
    ms = [batch.seconds * 1000 for batch in batches]
    median, last = statistics.median(ms), batches[-1]
    print(
        f"{label:>16}: median batch {median:.1f} ms, slowest {max(ms) / median:.2f} of it,"
        f" the last ({last.frames}+{last.padded} frames) {ms[-1] / median:.2f};"
        f" reserved {_mib(batches[0].memory.before.reserved):.0f} MiB before,"
        f" {_mib(last.memory.after.reserved):.0f} after, peak"
        f" {max(_mib(batch.memory.peak_reserved) for batch in batches):.0f}"
    )


def plot(title: str, runs: dict[str, list[BatchDone]]) -> str:
    """Return an SVG image with a line per run."""

    def lines(value: Callable[[BatchDone], float]) -> list[Line]:
        return [Line(f"{label}", [value(batch) for batch in batches]) for label, batches in runs.items()]

    source = next(iter(runs.values()))[0].memory.source
    used = "resident set" if source == "rss" else "peak of allocated memory"
    panels = [
        Panel("time of a batch, ms", lines(lambda batch: batch.seconds * 1000)),
        Panel(f"{used}, MiB", lines(lambda batch: _mib(batch.memory.peak_allocated))),
    ]
    if source == "cuda":
        panels.append(Panel("reserved memory, MiB", lines(lambda batch: _mib(batch.memory.after.reserved))))
    return draw(title, "batch", [Column([], panels)])


def _mib(size: int) -> float:
    return size / 2**20
