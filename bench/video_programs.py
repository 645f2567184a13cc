"""The programs that `bench.video` compares: the model, loops, the encoders, the pipeline and the stack."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any, Literal, cast

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from bench.processes import running_process, scripted_settings
from tests.support.stack import eventually
from webapi.client import Client
from webapi.local.commands import web_argv, worker_argv
from worker.jobs.settings import gpu_env
from worker.video.colour.tags import ColourTags
from worker.video.decoding.header import ClipHeader
from worker.video.encoding.encoder import Encoder
from worker.video.encoding.encoder_pool import EncoderPool
from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.writer import SegmentWriter
from worker.video.model import Clip
from worker.video.models.find import FoundModel
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, VideoRequest

__all__ = [
    "BareModel",
    "EncodersAlone",
    "MediaPipeLoop",
    "VideoTask",
    "run_pipeline",
    "run_through_stack",
    "running_stack",
]

#: Time limit of a start, in which a GPU's libraries are loaded and the model may be compiled.
START_S = 300.0
#: Batches of a clip that are kept in the device's memory.
IN_MEMORY = 8
#: Batches in a segment, as in a pipeline.
SEGMENT_BATCHES = 4


@dataclass(frozen=True, slots=True)
class VideoTask:
    """The clip, and the settings that all programs share."""

    clip: Path
    found: FoundModel
    options: Mapping[str, str]
    batch: int
    device: str
    compiled: bool
    decoder: Literal["libav", "nvdec"] = "libav"

    def load_pipeline(self, pad: bool = True) -> VideoPipeline:
        """Make a pipeline and load its model. With `pad`, it pads the last, short batch."""
        pipeline = VideoPipeline(
            lambda: self.found,
            device=self.device,
            batch_size=self.batch,
            compiled=self.compiled,
            pad=pad,
            nvdec=gpu_env() if self.decoder == "nvdec" else None,
        )
        pipeline.load()
        return pipeline

    def request(self, folder: Path) -> VideoRequest:
        return VideoRequest(self.clip, folder / "out.mp4", folder / "work", self.options)


class BareModel:
    """The model with nothing around it, and the simplest program that uses it for a clip."""

    def __init__(self, task: VideoTask) -> None:
        self.task = task
        self.model = task.found.model.load(task.found.weights, torch.device(task.device))
        self.options = self.model.Options(**task.options)
        if task.compiled:
            cast(Any, self.model).compile()
        with av.open(task.clip) as source:
            stream = source.streams.video[0]
            self.clip = Clip(stream.width, stream.height, stream.average_rate or Fraction(25), stream.frames)
            self.frames = sum(bool(packet.size) for packet in source.demux(stream))
        batches = self._batches()
        self.batches = [next(batches).to(task.device)]
        self.batches += [b.to(task.device) for b in islice(batches, IN_MEMORY - 1) if len(b) == task.batch]
        for _ in range(3):
            self.run_model()

    def _batches(self) -> Iterator[torch.Tensor]:
        """Decode the clip, and yield its frames in batches."""
        with av.open(self.task.clip) as source:
            frames = (frame.to_ndarray(format="rgb24") for frame in source.decode(video=0))
            while batch := list(islice(frames, self.task.batch)):
                yield torch.from_numpy(np.stack(batch))

    @torch.inference_mode()
    def run_model(self) -> None:
        """Run the model on as many batches as the clip has. They are in the device's memory."""
        model_pass = self.model.start(self.clip, self.options)
        for batch in islice(cycle(self.batches), -(-self.frames // self.task.batch)):
            results = cast(torch.Tensor, model_pass(batch, len(batch)))
        results[0, 0, 0, 0].item()  # waits for the device

    @torch.inference_mode()
    def run_loop(self, target: Path) -> None:
        """Decode the clip, run the model and encode to `target`, all in this thread."""
        output_form = self.model.output(self.clip, self.options)
        model_pass = self.model.start(self.clip, self.options)
        with av.open(target, "w") as output:
            options = {"crf": "18", "preset": "veryfast"}
            stream = output.add_stream("libx264", rate=self.clip.rate, options=options)
            stream.width = output_form.width or self.clip.width
            stream.height = output_form.height or self.clip.height
            stream.pix_fmt = "yuv420p"
            for batch in self._batches():
                rgb = batch.to(self.task.device)
                for result in cast(torch.Tensor, model_pass(rgb, len(rgb))).cpu().numpy():
                    output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(result))))
            output.mux(stream.encode(None))


class MediaPipeLoop:
    """MediaPipe's own loop, in a process of its own with the Python of MediaPipe's environment."""

    def __init__(self, python: Path, clip: Path, target: Path) -> None:
        program = Path(__file__).with_name("mediapipe_loop.py")
        self._process = subprocess.Popen(
            [python, program, clip, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.run()  # it loads the model

    def run(self) -> None:
        """Process the clip once."""
        stdin, stdout = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        stdin.write("\n")
        stdin.flush()
        if not stdout.readline():
            raise RuntimeError("MediaPipe's loop has ended early")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class EncodersAlone:
    """The encoders of the pipeline with nothing around them: their frames are in memory, as planes.

    The frames are the clip's own, in the size of the task's results. `encoders` are by default those of this
    machine's default settings.
    """

    def __init__(self, task: VideoTask, size: tuple[int, int], encoders: EncoderPool | None = None) -> None:
        self.task = task
        self.encoders = encoders or EncoderPool()
        width, height = size
        with av.open(task.clip) as source:
            stream, scaler = source.streams.video[0], VideoReformatter()
            frames = [scaler.reformat(frame, width, height, "yuv420p") for frame in source.decode(stream)]
            rate = stream.average_rate or Fraction(25)
        self.planes = np.stack([frame.to_ndarray() for frame in frames])
        colours = ColourTags.from_frame(frames[0]).of_result(width, height)
        self.header = ClipHeader(width, height, None, rate, 1 / rate, 0, colours, len(frames))

    def run(self, work: Path) -> None:
        """Encode all frames into segments in the folder `work`, and remove it."""
        batch = self.task.batch
        with SegmentWriter(
            SegmentFolder(work),
            lambda path, threads: Encoder(path, self.header, threads),
            first=0,
            batches=SEGMENT_BATCHES,
            encoders=self.encoders,
        ) as writer:
            for start in range(0, len(self.planes), batch):
                frames = self.planes[start : start + batch]
                writer.write(frames, range(start, start + len(frames)), len(frames))
            writer.flush()
        shutil.rmtree(work)


def run_pipeline(pipeline: VideoPipeline, request: VideoRequest) -> list[BatchDone]:
    """Run the request, and return its batches."""
    batches: list[BatchDone] = []
    pipeline.run_clip(request, on_batch=batches.append, canceled=lambda: False)
    shutil.rmtree(request.work)  # otherwise the next round would only join these segments
    return batches


def run_through_stack(client: Client, task: VideoTask, target: Path) -> None:
    """Submit the clip, follow the job to its end, and download the result to `target`."""
    job = client.submit_video(task.clip, options=dict(task.options))
    for _ in client.events(job["id"]):
        pass
    client.download(job["id"], target)


@contextmanager
def running_stack(task: VideoTask, workers: int = 1) -> Iterator[Client]:
    """Run an API and so many video workers, and yield a client when the workers are ready.

    No chat worker runs, because it would use the GPU too.
    """
    devices = "cpu" if task.device == "cpu" else "auto"
    model = {"video_model": task.found.name, "video_weights": task.found.weights}
    with scripted_settings(**model, batch_size=task.batch) as base, ExitStack() as processes:
        settings = base.replace(
            worker="video", devices=devices, compile=task.compiled, video_decoder=task.decoder
        )
        logs = settings.home_dir
        processes.enter_context(running_process(web_argv(settings), settings, logs / "web.log"))
        for number in range(workers):
            argv, log = worker_argv("video", settings), logs / f"video-{number}.log"
            processes.enter_context(running_process(argv, settings, log))
        with Client(settings.url) as client:
            eventually(partial(client.alive, "/livez"), "the API", START_S)
            eventually(
                lambda: sum(card["state"] == "ready" for card in client.workers()) == workers,
                "the workers",
                START_S,
            )
            yield client
