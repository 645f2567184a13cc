"""Makes the runner of a video worker, with its pipeline."""

from worker import assets
from worker.devices.lease import DeviceLease
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings
from worker.jobs.specs import VideoJob
from worker.video.pipeline import VideoPipeline
from worker.video.runner import VideoRunner

__all__ = ["make_runner"]


def make_runner(settings: Settings, device: DeviceLease, *_: object) -> VideoRunner:
    """Return the runner for videos on the device. Raises `ConfigurationError` or `ModelMissing`."""
    if device.gpus > 1:
        raise ConfigurationError(f"a video worker runs on one GPU, not on {device.gpus}: start one for each")
    weights = assets.resolve(settings.models_dir, settings.video_model)
    return VideoRunner(
        VideoPipeline(
            weights,
            device=device.torch_device,
            batch_size=settings.batch_size,
            segment_batches=settings.segment_batches,
            model=settings.model_name(VideoJob.kind),
            limits=settings.limits,
            sizes=settings.video_sizes,
            compiled=settings.compile,
        ),
        settings,
    )
