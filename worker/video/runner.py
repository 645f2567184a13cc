"""Video runs: a job's clip through the pipeline, its batches into the job's log."""

from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction

from worker.jobs.clips import probe
from worker.jobs.events import Batch, Canceled, Progress, Succeeded
from worker.jobs.media import JobFiles
from worker.jobs.settings import Settings
from worker.jobs.specs import VideoJob
from worker.runs import Run
from worker.video import pipeline
from worker.video.pipeline import BatchDone, VideoPipeline, VideoRequest, VideoResult

__all__ = ["VideoRunner"]

#: How long a batch waits to hear whether its job was canceled, when Redis does not answer.
CANCEL_WAIT_S = 1.0


class VideoRunner:
    """Runs one clip at a time."""

    slots = 1
    engine_name = "torch"
    context_length = None
    prompt = None

    def __init__(self, video: VideoPipeline, settings: Settings) -> None:
        self._pipeline = video
        self._settings = settings

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Load the model and warm it up with the one batch shape."""
        self._pipeline.load()

    def run(self, run: Run) -> None:
        """Run the clip to its end. Raises `BadVideo`."""
        request = self._request(run)
        total = probe(request.source, max_pixels=self._settings.max_pixels).frames
        done = 0

        def on_batch(batch: BatchDone) -> None:
            nonlocal done
            done += batch.frames
            event = Batch(batch.index, batch.frames, batch.padded, batch.seconds, asdict(batch.memory))
            run.emit(event, Progress(done, total, "frames"), done=done, total=total)
            run.wait_logged(CANCEL_WAIT_S)

        try:
            result = self._pipeline.run(request, on_batch=on_batch, canceled=run.stopping.is_set)
        except pipeline.Canceled:
            run.emit(Canceled())
        else:
            succeeded = _succeeded(result)
            run.emit(succeeded, usage=succeeded.usage, result=succeeded.result)
        run.over.wait()

    def stop(self) -> None:
        """Let go of the model."""
        self._pipeline.close()

    def _request(self, run: Run) -> VideoRequest:
        spec = run.record.spec
        if not isinstance(spec, VideoJob):
            raise TypeError(f"{run.record.id} is not a video")
        files = JobFiles.of(self._settings.media_dir, run.record.id)
        return VideoRequest(
            source=files.clip,
            target=files.result,
            effect=spec.effect,
            background=files.background if spec.background_image else _rgb(spec.background),
            pad=spec.pad,
        )


def _rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three bytes."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _succeeded(result: VideoResult) -> Succeeded:
    rate = Fraction(result.rate)
    return Succeeded(
        result={
            "frames": result.frames,
            "width": result.width,
            "height": result.height,
            "frame_rate": f"{rate.numerator}/{rate.denominator}",
            "bytes": result.bytes,
            "content_type": "video/mp4",
        },
        usage={
            "frames": result.frames,
            "batches": result.batches,
            "padded_frames": result.padded,
            "seconds": round(result.seconds, 3),
        },
    )
