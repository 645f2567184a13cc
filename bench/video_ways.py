"""The ways that `bench.video` compares: the bare model, the obvious loop, the pipeline and the stack."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch

from bench.processes import process, scripted_settings
from tests.support.stack import eventually
from webapi.client import Client
from webapi.local.commands import web_argv, worker_argv
from worker.video.inference.composite import Effect, compositor
from worker.video.models import MODELS, VideoModel
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, VideoRequest

__all__ = ["MODEL", "Bare", "Work", "running_stack", "through", "through_stack"]

GREEN = (0, 255, 0)
MODEL = "selfie_segmentation"
#: For a GPU's libraries to load, and for the compiler.
START_S = 300.0


@dataclass(frozen=True, slots=True)
class Work:
    """What every way does."""

    clip: Path
    weights: Path
    effect: Effect
    batch: int
    device: str
    compiled: bool

    def pipeline(self, pad: bool = True) -> VideoPipeline:
        """A loaded one."""
        video = VideoPipeline(
            self.weights, device=self.device, batch_size=self.batch, compiled=self.compiled, pad=pad
        )
        video.load()
        return video

    def request(self, folder: Path) -> VideoRequest:
        return VideoRequest(self.clip, folder / "out.mp4", folder / "work", self.effect, GREEN)


class Bare:
    """The model with nothing around it, and the program one would write first."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.model: VideoModel = MODELS[MODEL].load(work.weights, work.device)
        if work.compiled:
            self.model.compile()
        with av.open(work.clip) as source:
            frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
        self.frames = len(frames)
        frames += [frames[-1]] * (-len(frames) % work.batch)
        clip = torch.from_numpy(np.stack(frames)).to(work.device)
        self.batches = [clip[start : start + work.batch] for start in range(0, len(clip), work.batch)]
        for _ in range(3):
            self.alone()

    @torch.inference_mode()
    def alone(self) -> None:
        for batch in self.batches:
            alpha = self.model(batch, len(batch))
        alpha[0, 0, 0, 0].item()  # waits for all of it

    @torch.inference_mode()
    def loop(self, target: Path) -> None:
        work = self.work
        with av.open(work.clip) as source, av.open(target, "w") as output:
            pictures = source.streams.video[0]
            compose = compositor(work.effect, GREEN, pictures.height, pictures.width, work.device)
            options = {"crf": "18", "preset": "veryfast"}
            stream = output.add_stream("libx264", rate=pictures.average_rate, options=options)
            stream.width, stream.height, stream.pix_fmt = pictures.width, pictures.height, "yuv420p"
            frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(pictures)]
            for start in range(0, len(frames), work.batch):
                rgb = torch.from_numpy(np.stack(frames[start : start + work.batch])).to(work.device)
                for result in compose(rgb, self.model(rgb, len(rgb))).contiguous().cpu().numpy():
                    output.mux(stream.encode(av.VideoFrame.from_ndarray(result)))
            output.mux(stream.encode(None))


def through(pipeline: VideoPipeline, request: VideoRequest) -> list[BatchDone]:
    batches: list[BatchDone] = []
    pipeline.run(request, on_batch=batches.append, canceled=lambda: False)
    shutil.rmtree(request.work)  # or the next round would only join
    return batches


def through_stack(client: Client, work: Work, target: Path) -> None:
    job = client.submit_video(work.clip, "#00ff00", effect=work.effect)
    for _ in client.events(job["id"]):
        pass
    client.download(job["id"], target)


@contextmanager
def running_stack(work: Work) -> Iterator[Client]:
    """An API and one video worker, warm; no chat worker takes the GPU."""
    devices = "cpu" if work.device == "cpu" else "auto"
    with scripted_settings(video_model=str(work.weights), batch_size=work.batch) as base:
        settings = base.replace(worker="video", devices=devices, compile=work.compiled)
        logs = settings.home_dir
        with (
            process(web_argv(settings), settings, logs / "web.log"),
            process(worker_argv("video", settings), settings, logs / "video.log"),
            Client(settings.url) as client,
        ):
            eventually(partial(client.alive, "/livez"), "the API", START_S)
            eventually(
                lambda: any(card["state"] == "ready" for card in client.workers()), "a worker", START_S
            )
            yield client
