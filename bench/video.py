"""Measure the frames per second of the whole stack, beside the pipeline, a bare loop and the model.

    python -m bench.video [--clip carphone_pristine.mp4] [--model selfie_segmentation] [--set KEY=VALUE]
                          [--rounds 5] [--device cpu | cuda] [--compile] [--plot FILE.svg]

Four programs take turns, and the table has the median of the rounds:

- model: the model alone, on frames that are already in the device's memory;
- bare loop: one thread that decodes with PyAV, runs the model on np.stack'ed batches, and encodes;
- pipeline: the VideoPipeline in this process;
- stack: upload → API → Redis → Celery → lane → pipeline → events → download, in processes of its own.

`--device cuda` takes the first free GPU. With `--compile`, torch compiles the model in all four programs.

Afterwards the benchmark shows the batches of the first clip of a newly loaded pipeline, with padding and
without: the time of the slowest batch and of the last, short batch, relative to the median, and the memory.
`--plot` draws both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.video_programs import BareModel, VideoTask, run_pipeline, run_through_stack, running_stack
from webapi.documents.plot import Column, Line, Panel, draw
from worker.assets import fetch
from worker.devices.memory import free
from worker.jobs.daemon_threads import DaemonThreads
from worker.jobs.settings import Settings
from worker.video.models.find import find_model
from worker.video.request import BatchDone


def compare(task: VideoTask, rounds: int, folder: Path) -> None:
    """Let the programs take turns, and print their table."""
    bare, pipeline, request = BareModel(task), task.load_pipeline(), task.request(folder)
    with running_stack(task) as client:
        programs: dict[str, Callable[[], object]] = {
            "model": bare.run_model,
            "bare loop": partial(bare.run_loop, folder / "bare.mp4"),
            "pipeline": partial(run_pipeline, pipeline, request),
            "stack": partial(run_through_stack, client, task, folder / "stack.mp4"),
        }
        took: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(rounds):
            for name, run in programs.items():
                began = time.perf_counter()
                run()
                took[name].append(time.perf_counter() - began)
    pipeline.close()
    fps = {name: bare.frames / statistics.median(seconds) for name, seconds in took.items()}
    print(f"{'':>10} {'frames/s':>9}  of the {'  of the '.join(['model', 'bare loop', 'pipeline'])}")
    for name, value in fps.items():
        shares = (value / fps[other] for other in ("model", "bare loop", "pipeline"))
        print(f"{name:>10} {value:>9.1f} {'':>7}" + "".join(f"{share:>11.3f}" for share in shares))


def run_first_clip(task: VideoTask, pad: bool, folder: Path) -> list[BatchDone]:
    """Run the clip in a new pipeline and return its batches.

    The allocator's memory is freed and the thread is new, so that neither the device nor cuDNN, which keeps
    its plans per thread, knows the size of the clip.
    """
    free(task.device)
    thread = DaemonThreads("video", limit=1)
    pipeline = thread.call(partial(task.load_pipeline, pad))
    batches = thread.call(partial(run_pipeline, pipeline, task.request(folder)))
    thread.call(pipeline.close)
    thread.stop()
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", default="carphone_pristine.mp4", help="a sample's name, or a file")
    parser.add_argument("--model", default="selfie_segmentation", help="a model whose results are frames")
    parser.add_argument("--set", action="append", default=[], help="an option of the model: KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    settings = Settings.from_env()
    clip = Path(args.clip) if Path(args.clip).exists() else fetch(settings.models_dir, args.clip)
    found = find_model(args.model, args.model, fetch(settings.models_dir, args.model))
    options = dict(option.split("=", 1) for option in args.set)
    task = VideoTask(clip, found, options, settings.batch_size, args.device, args.compile)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    what = " ".join([args.model, *args.set])
    title = f"{clip.name}, {what}, batches of {task.batch}, {name}{', compiled' * task.compiled}"
    print(title, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        compare(task, args.rounds, Path(folder))
        padding = {"with padding": True, "without padding": False}
        runs = {label: run_first_clip(task, pad, Path(folder)) for label, pad in padding.items()}
    for label, batches in runs.items():
        describe(label, batches)
    if args.plot:
        args.plot.write_text(plot(title, runs), "utf-8")
        print(f"plot: {args.plot}")


if __name__ == "__main__":
    main()
