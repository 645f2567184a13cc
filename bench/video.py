"""Frames a second through the whole stack, beside the bare pipeline and the obvious loop, in one run.

    python -m bench.video [--clip carphone_pristine.mp4] [--effect background] [--rounds 3]

Loop: one thread decodes with PyAV, runs the model on np.stack'ed batches, composites and encodes. Pipeline:
the VideoPipeline in this process. Stack: upload → API → Redis → Celery → lane → pipeline → events → download.
They take turns; the table has the median of the rounds.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

from webapi.client import Client
from webapi.demo import running_stack
from worker.jobs.settings import Settings
from worker.models import resolve
from worker.video.composite import Effect, compositor
from worker.video.models import MODELS, VideoModel
from worker.video.pipeline import VideoPipeline
from worker.video.request import VideoRequest

GREEN = (0, 255, 0)


@torch.inference_mode()
def loop(model: VideoModel, clip: Path, target: Path, effect: Effect, batch: int) -> None:
    """The program one would write first."""
    with av.open(clip) as source, av.open(target, "w") as output:
        pictures = source.streams.video[0]
        compose = compositor(effect, GREEN, pictures.height, pictures.width, "cpu")
        options = {"crf": "18", "preset": "veryfast"}
        stream = output.add_stream("libx264", rate=pictures.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = pictures.width, pictures.height, "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(pictures)]
        for start in range(0, len(frames), batch):
            rgb = torch.from_numpy(np.stack(frames[start : start + batch]))
            for result in compose(rgb, model(rgb, len(rgb))).contiguous().numpy():
                output.mux(stream.encode(av.VideoFrame.from_ndarray(result)))
        output.mux(stream.encode(None))


def through_pipeline(pipeline: VideoPipeline, request: VideoRequest) -> None:
    pipeline.run(request, on_batch=lambda _: None, canceled=lambda: False)
    shutil.rmtree(request.work)  # or the next round would only join


def through_stack(client: Client, clip: Path, target: Path, effect: Effect) -> None:
    job = client.submit_video(clip, "#00ff00", effect=effect)
    for _ in client.events(job["id"]):
        pass
    client.download(job["id"], target)


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", default="carphone_pristine.mp4")
    parser.add_argument("--effect", default="background", choices=["background", "blur", "matte"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    settings = Settings.from_env()
    clip, weights = settings.models_dir / args.clip, resolve(settings.models_dir, settings.video_model)
    pipeline = VideoPipeline(weights, batch_size=settings.batch_size)
    pipeline.load()
    model = MODELS["selfie_segmentation"].load(weights, "cpu")
    model.warm_up(settings.batch_size, 720, 1280)
    with (
        running_stack(settings, settings.root / "bench.log") as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        target = Path(folder) / "out.mp4"
        work = Path(folder) / "work"
        request = VideoRequest(clip, target, work, args.effect, GREEN)
        ways: dict[str, Callable[[], object]] = {
            "bare loop": lambda: loop(model, clip, target, args.effect, settings.batch_size),
            "pipeline": lambda: through_pipeline(pipeline, request),
            "stack": lambda: through_stack(client, clip, target, args.effect),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, run in ways.items():
                took[name].append(seconds(run))
        with av.open(target) as container:
            frames = sum(1 for _ in container.decode(video=0))
    fps = {name: frames / statistics.median(values) for name, values in took.items()}
    print(f"{args.clip}, {frames} frames, {args.effect}, batches of {settings.batch_size}")
    for name, value in fps.items():
        print(f"{name:>10} {value:7.1f} frames/s  {value / fps['bare loop']:.2f} of the bare loop")


if __name__ == "__main__":
    main()
