"""Measure the frames per second of the whole stack, beside the pipeline, simple loops and the parts alone.

    python -m bench.video [--clip carphone_pristine.mp4] [--size 1920x1080] [--loops 10] [--rounds 5]
                          [--model selfie_segmentation] [--set KEY=VALUE] [--device cpu | cuda] [--compile]
                          [--decoder libav | nvdec] [--workers 2] [--mediapipe PYTHON] [--plot FILE.svg]

The programs take turns, and the table has the median of the rounds:

- model: the model alone, on frames that are already in the device's memory;
- bare loop: one thread that decodes with PyAV, runs the model on np.stack'ed batches, and encodes;
- MediaPipe: the loop that its users write for selfie_segmentation (`bench/mediapipe_loop.py`), in an
  environment of its own, which `make .venv-clients/mediapipe/installed` makes;
- encoders: the pipeline's encoders alone, with frames in memory and nothing else to do;
- pipeline: the VideoPipeline in this process;
- stack: upload → API → Redis → Celery → lane → pipeline → events → download, in processes of its own.

With `--workers N`, a stack with N workers follows, which share the clip. `--loops` repeats the clip and
`--size` scales it, both without sound. `--device cuda` takes the first free GPU. With `--compile`, torch
compiles the model in all programs.

Below the table, the benchmark shows how busy the pipeline's stages were. Then it shows the batches of the
first clip of a newly loaded pipeline, with padding and without: the time of the slowest batch and of the
last, short batch, relative to the median, and the memory. `--plot` draws both.
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from worker.assets import fetch
from worker.jobs.settings import Settings, set_env_default

if TYPE_CHECKING:  # torch is imported after its environment is set
    from bench.video_programs import VideoTask

#: The Python of the environment that `make .venv-clients/mediapipe/installed` makes.
MEDIAPIPE = Path(".venv-clients/mediapipe/bin/python")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", default="carphone_pristine.mp4", help="a sample's name, or a file")
    parser.add_argument("--size", help="scale the clip to this size: 1920x1080")
    parser.add_argument("--loops", type=int, default=1, help="repeat the clip so many times")
    parser.add_argument("--model", default="selfie_segmentation", help="a model whose results are frames")
    parser.add_argument("--set", action="append", default=[], help="an option of the model: KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--decoder", default="libav", choices=["libav", "nvdec"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=1, help="the workers of a second stack")
    parser.add_argument("--mediapipe", type=Path, help=f"a Python with MediaPipe [{MEDIAPIPE}, if it exists]")
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def make_task(args: argparse.Namespace, folder: Path) -> "VideoTask":
    """Fetch the model and the clip, and make the clip's longer or larger copy in `folder`."""
    from bench.video_clips import looped, scaled
    from bench.video_programs import VideoTask
    from worker.video.models.find import find_model

    settings = Settings.from_env()
    clip = Path(args.clip) if Path(args.clip).exists() else fetch(settings.models_dir, args.clip)
    if args.size:
        width, height = map(int, args.size.split("x"))
        clip = scaled(clip, width, height, folder / f"{clip.stem}-{args.size}.mp4")
    if args.loops > 1:
        clip = looped(clip, args.loops, folder / f"{clip.stem}-{args.loops}-times.mp4")
    found = find_model(args.model, args.model, fetch(settings.models_dir, args.model))
    options = dict(option.split("=", 1) for option in args.set)
    return VideoTask(clip, found, options, settings.batch_size, args.device, args.compile, args.decoder)


def main() -> None:
    args = parse()
    set_env_default(OMP_WAIT_POLICY="PASSIVE")  # as in a video worker, before torch is imported
    import torch

    from bench.video_batches import describe, plot, run_first_clip
    from bench.video_table import compare

    mediapipe = args.mediapipe or (MEDIAPIPE if MEDIAPIPE.exists() else None)
    if (args.model, args.set, args.device) != ("selfie_segmentation", [], "cpu"):
        mediapipe = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = make_task(args, folder)
        device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
        what = " ".join([args.model, *args.set])
        title = f"{task.clip.name}, {what}, batches of {task.batch}, {device}{', compiled' * task.compiled}"
        print(title, flush=True)
        compare(task, args.rounds, folder, mediapipe=mediapipe, workers=args.workers)
        padding = {"with padding": True, "without padding": False}
        runs = {label: run_first_clip(task, pad, folder) for label, pad in padding.items()}
    for label, batches in runs.items():
        describe(label, batches)
    if args.plot:
        args.plot.write_text(plot(title, runs), "utf-8")
        print(f"plot: {args.plot}")


if __name__ == "__main__":
    main()
