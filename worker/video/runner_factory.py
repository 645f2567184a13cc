"""Makes the runner of a video worker, with its pipeline."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from worker import assets
from worker.devices.lease import DeviceLease
from worker.jobs.errors import ConfigurationError
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings, gpu_env, set_env_default
from worker.jobs.specs import VideoJob
from worker.video.models.find import MODELS, FoundModel, find_model
from worker.video.pipeline import VideoPipeline
from worker.video.runner import VideoRunner

__all__ = ["configured_model", "configured_pipeline", "make_runner"]

#: The clips that a worker on a GPU runs at once, if the settings do not tell: the model waits for the
#: decoder and the encoder of a single clip. On a CPU all three share the cores.
GPU_SLOTS = 2


def make_runner(settings: Settings, device: DeviceLease, ledger: Ledger, *_: object) -> VideoRunner:
    """Return the runner for videos on the device. Raises `ConfigurationError` or `ModelMissing`."""
    if device.gpus > 1:
        raise ConfigurationError(f"a video worker runs on one GPU, not on {device.gpus}: start one for each")
    nvdec = gpu_env() if device.gpus and settings.video_decoder == "nvdec" else None
    return VideoRunner(
        configured_pipeline(settings, device.torch_device, nvdec),
        settings,
        slots=settings.video_slots or (GPU_SLOTS if device.gpus else 1),
        ledger=ledger,
    )


def configured_pipeline(
    settings: Settings, device: str, nvdec: Mapping[str, str] | None = None
) -> VideoPipeline:
    """Return the pipeline with the model that the settings name. Call this before torch is imported.

    `nvdec` is the environment of processes that decode on the GPU, or None if the CPU decodes.
    """
    # The threads of torch on the CPU would spin while they wait for each other, and so take the cores from
    # the processes and threads that decode and encode.
    set_env_default(OMP_WAIT_POLICY="PASSIVE")
    return VideoPipeline(
        partial(configured_model, settings),
        device=device,
        batch_size=settings.batch_size,
        segment_batches=settings.segment_batches,
        limits=settings.limits,
        sizes=settings.video_sizes,
        compiled=settings.compile,
        encoders=settings.encoders,
        nvdec=nvdec,
    )


def configured_model(settings: Settings) -> FoundModel:
    """Return the model that the settings name. Raises `ConfigurationError` and `ModelMissing`."""
    spec, weights = settings.video_model, settings.video_weights
    if spec in MODELS:
        weights = weights or assets.resolve(settings.models_dir, spec)
    elif Path(spec).stem in MODELS:  # a file of weights, which has the name of its model
        spec, weights = Path(spec).stem, assets.resolve(settings.models_dir, spec)
    return find_model(spec, settings.model_name(VideoJob.kind), weights)
