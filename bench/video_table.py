"""Lets the programs of `bench.video` take turns, and prints their table and who was busy in the pipeline."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from bench.video_programs import (
    BareModel,
    EncodersAlone,
    MediaPipeLoop,
    VideoTask,
    run_pipeline,
    run_through_stack,
    running_stack,
)
from worker.video.pipeline import VideoPipeline
from worker.video.request import VideoRequest

__all__ = ["compare"]

#: The programs with which the table compares all others, where they have run.
REFERENCES = ("model", "bare loop", "MediaPipe", "encoders", "pipeline", "stack")


class WatchedPipeline:
    """The pipeline in this process, and what it used for its last clip."""

    def __init__(self, pipeline: VideoPipeline, request: Callable[[], VideoRequest]) -> None:
        self._pipeline = pipeline
        self._request = request
        self._sandboxes = psutil.Process().children()  # the parent of all sandboxes is the only child so far
        self.shares: list[Mapping[str, float]] = []

    def run(self) -> None:
        """Process the clip, and record the shares of the time in which its stages were busy."""
        request, began, cpu = self._request(), time.perf_counter(), self._cpu_seconds()
        run_pipeline(self._pipeline, request)
        seconds = time.perf_counter() - began
        busy = request.stages.take()
        used = {name: after - cpu[name] for name, after in self._cpu_seconds().items()}
        self.shares.append({name: value / seconds for name, value in (*busy.items(), *used.items())})

    def close(self) -> None:
        self._pipeline.close()

    def _cpu_seconds(self) -> dict[str, float]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        sandboxes = sum(sum(process.cpu_times()[:4]) for process in self._sandboxes)
        return {"CPU of the worker": own.ru_utime + own.ru_stime, "CPU of its sandboxes": sandboxes}


def compare(
    task: VideoTask, rounds: int, folder: Path, *, mediapipe: Path | None = None, workers: int = 1
) -> None:
    """Let the programs take turns, and print their table.

    `mediapipe` is the Python of an environment with MediaPipe. With several `workers`, a stack with so many
    runs the clip afterwards.
    """
    watched = WatchedPipeline(task.load_pipeline(), partial(task.request, folder))
    bare = BareModel(task)
    form = bare.model.output(bare.clip, bare.options)
    encoders = EncodersAlone(task, (form.width or bare.clip.width, form.height or bare.clip.height))
    programs: dict[str, Callable[[], object]] = {
        "model": bare.run_model,
        "bare loop": partial(bare.run_loop, folder / "bare.mp4"),
        "encoders": partial(encoders.run, folder / "segments"),
        "pipeline": watched.run,
    }
    with ExitStack() as stack:
        if mediapipe:
            loop = MediaPipeLoop(mediapipe, task.clip, folder / "mediapipe.mp4")
            stack.callback(loop.close)
            programs["MediaPipe"] = loop.run
        client = stack.enter_context(running_stack(task))
        programs["stack"] = partial(run_through_stack, client, task, folder / "stack.mp4")
        took = take_turns(programs, rounds)
    watched.close()
    if workers > 1:
        with running_stack(task, workers) as client:
            run = partial(run_through_stack, client, task, folder / "stack.mp4")
            run()  # each worker warms up for the clip
            took |= take_turns({f"{workers} workers": run}, rounds)
    print_table({name: bare.frames / statistics.median(seconds) for name, seconds in took.items()})
    print("busy in the pipeline, of the time of a clip: " + describe_shares(watched.shares))


def take_turns(programs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run each program once a round. Return the seconds of each run."""
    took: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            began = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - began)
    return took


def print_table(fps: Mapping[str, float]) -> None:
    """Print the frames per second of each program, and their ratios to the references."""
    references = [name for name in REFERENCES if name in fps]
    print(f"{'':>10} {'frames/s':>9}  of: " + "".join(f"{name:>11}" for name in references))
    for name, value in fps.items():
        shares = "".join(f"{value / fps[other]:>11.3f}" for other in references)
        print(f"{name:>10} {value:>9.1f} {'':>5}{shares}")


def describe_shares(runs: Sequence[Mapping[str, float]]) -> str:
    """Return the median of each share over the runs."""
    medians = {name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[-1]}
    return ", ".join(f"{name} {share:.2f}" for name, share in medians.items())
