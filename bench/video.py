"""Frames a second through the whole stack, beside the pipeline, the obvious loop and the model, in one run.

    python -m bench.video [--clip carphone_pristine.mp4] [--effect background] [--rounds 5]
                          [--device cpu | cuda] [--compile] [--plot FILE.svg]

Model: it alone, over frames that lie on the device already. Bare loop: one thread decodes with PyAV, runs the
model on np.stack'ed batches, composites and encodes. Pipeline: the VideoPipeline in this process. Stack:
upload → API → Redis → Celery → lane → pipeline → events → download, through processes of its own. They take
turns; the table has the median of the rounds. `--device cuda` takes the first free GPU; `--compile` has torch
compile the model, in all four.

Then the batches of the first clip in a pipeline that was just loaded, with padding and without: their times
beside the median, the last, short batch's above all, and their memory. `--plot` draws both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.video_ways import MODEL, Bare, Work, running_stack, through, through_stack
from webapi.documents.plot import Line, Panel, draw
from worker.assets import fetch
from worker.devices.memory import free
from worker.jobs.settings import Settings
from worker.video.inference.device_thread import DeviceThread
from worker.video.request import BatchDone


def compare(work: Work, rounds: int, folder: Path) -> None:
    """Let the ways take turns and print their table."""
    bare, pipeline, request = Bare(work), work.pipeline(), work.request(folder)
    with running_stack(work) as client:
        ways: dict[str, Callable[[], object]] = {
            "model": bare.alone,
            "bare loop": partial(bare.loop, folder / "bare.mp4"),
            "pipeline": partial(through, pipeline, request),
            "stack": partial(through_stack, client, work, folder / "stack.mp4"),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, run in ways.items():
                began = time.perf_counter()
                run()
                took[name].append(time.perf_counter() - began)
    pipeline.close()
    fps = {name: bare.frames / statistics.median(seconds) for name, seconds in took.items()}
    print(f"{'':>10} {'frames/s':>9}  of the {'  of the '.join(['model', 'bare loop', 'pipeline'])}")
    for name, value in fps.items():
        shares = (value / fps[other] for other in ("model", "bare loop", "pipeline"))
        print(f"{name:>10} {value:>9.1f} {'':>7}" + "".join(f"{share:>11.3f}" for share in shares))


def first_clip(work: Work, pad: bool, folder: Path) -> list[BatchDone]:
    """The batches of a clip whose size the device has not seen, in a thread that cuDNN does not know."""
    free(work.device)
    thread = DeviceThread("video")
    pipeline = thread.call(partial(work.pipeline, pad))
    batches = thread.call(partial(through, pipeline, work.request(folder)))
    thread.call(pipeline.close)
    thread.stop()
    return batches


def describe(label: str, batches: list[BatchDone]) -> None:
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
    return draw(title, "batch", panels)


def _mib(size: int) -> float:
    return size / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clip", default="carphone_pristine.mp4", help="a sample's name, or a file")
    parser.add_argument("--effect", default="background", choices=["background", "blur", "matte"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    settings = Settings.from_env()
    clip = Path(args.clip) if Path(args.clip).exists() else fetch(settings.models_dir, args.clip)
    weights = fetch(settings.models_dir, MODEL)
    work = Work(clip, weights, args.effect, settings.batch_size, args.device, args.compile)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    title = f"{clip.name}, {work.effect}, batches of {work.batch}, {name}{', compiled' * work.compiled}"
    print(title, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        compare(work, args.rounds, Path(folder))
        padding = {"with padding": True, "without padding": False}
        runs = {label: first_clip(work, pad, Path(folder)) for label, pad in padding.items()}
    for label, batches in runs.items():
        describe(label, batches)
    if args.plot:
        args.plot.write_text(plot(title, runs))
        print(f"plot: {args.plot}")


if __name__ == "__main__":
    main()
