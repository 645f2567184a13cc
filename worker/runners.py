"""The runner of each kind of job. Only the code of the worker's own kind is imported."""

from worker import assets
from worker.devices.lease import DeviceLease
from worker.jobs.errors import ConfigurationError
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.runs.outbox import Outbox
from worker.runs.runner import Runner

__all__ = ["make_runner"]


def make_runner(kind: str, settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox) -> Runner:
    """Return the runner for this kind of job on the device. Raises `ConfigurationError` or `ModelMissing`."""
    return (_video if kind == "video" else _chat)(settings, device, ledger, outbox)


def _chat(settings: Settings, device: DeviceLease, ledger: Ledger, outbox: Outbox) -> Runner:
    from worker.chat.engines import make_engine
    from worker.chat.runner import ChatRunner

    named = make_engine(settings, device.torch_device, device.gpus)
    return ChatRunner(
        named.engine,
        named.name,
        ledger,
        outbox,
        shared_prefix_cache=settings.shared_prefix_cache,
        control_tokens=settings.control_tokens,
    )


def _video(settings: Settings, device: DeviceLease, *_: object) -> Runner:
    if device.gpus > 1:
        raise ConfigurationError(f"a video worker runs on one GPU, not on {device.gpus}: start one for each")
    from worker.video.pipeline import VideoPipeline
    from worker.video.runner import VideoRunner

    weights = assets.resolve(settings.models_dir, settings.video_model)
    pipeline = VideoPipeline(
        weights,
        device=device.torch_device,
        batch_size=settings.batch_size,
        segment_batches=settings.segment_batches,
        model=settings.model_name("video"),
        limits=settings.limits,
        sizes=settings.video_sizes,
        compiled=settings.compile,
    )
    return VideoRunner(pipeline, settings)
