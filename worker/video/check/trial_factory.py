"""Makes the trial that a command line asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from worker.jobs.errors import ConfigurationError, InvalidInput
from worker.jobs.limits import Limits
from worker.jobs.option_texts import read_options, require_options
from worker.jobs.options import options_of
from worker.jobs.settings import Settings
from worker.video.check.clips import cut_clip, make_clip
from worker.video.check.trial import Trial
from worker.video.model import FrameModel
from worker.video.models.find import FoundModel

__all__ = ["choose_device", "make_trial", "other_batch_size"]

#: The least number of frames of a clip that is made here.
MIN_FRAMES = 5


def make_trial(
    found: FoundModel,
    settings: Settings,
    folder: Path,
    *,
    device: str,
    options: Iterable[str] = (),
    clip: Path | None = None,
    frames: int | None = None,
) -> Trial:
    """Return the trial of the model, and write its clip into `folder`.

    The clip has the first `frames` frames of `clip`, by default two and a half batches. It has one less if
    the last batch were full otherwise, because the check needs padding. Without `clip` it is made. `options`
    are texts KEY=VALUE, or KEY=@FILE.

    Raises `ConfigurationError`, and `BadVideo` if the clip cannot be read.
    """
    values, uploads = _read_options(found.model, options)
    size = max(settings.batch_size, _neighbours(found.model))
    source, length = folder / "clip.mp4", frames or max(MIN_FRAMES, 5 * size // 2)
    count = _write_clip(source, clip, length, settings.limits)
    if count > size > 1 and count % size == 0:
        count = _write_clip(source, clip, count - 1, settings.limits)
    if count <= size:
        raise ConfigurationError(
            f"{count} frames are too few for batches of {size}: use a longer clip, or a smaller --batch-size"
        )
    return Trial(
        found=found,
        clip=source,
        frames=count,
        folder=folder,
        device=device,
        batch_size=size,
        segment_batches=settings.segment_batches,
        limits=settings.limits,
        options=values,
        uploads=uploads,
    )


def _write_clip(target: Path, clip: Path | None, frames: int, limits: Limits) -> int:
    return cut_clip(target, clip, frames, limits) if clip else make_clip(target, frames)


def other_batch_size(trial: Trial) -> int:
    """Return another size for batches than that of the trial: half of it if possible, else twice as much."""
    half = trial.batch_size // 2
    return half if half >= max(1, _neighbours(trial.found.model)) else 2 * trial.batch_size


def choose_device(name: str | None) -> str:
    """Return the torch device of this name, by default a GPU if there is one. Raises `ConfigurationError`."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("torch finds no GPU here: use --device cpu")
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def _neighbours(model: type[FrameModel]) -> int:
    """Return the least size of a batch, because a batch is as long as its neighbours."""
    return max(getattr(model, "before", 0), getattr(model, "after", 0))


def _read_options(
    model: type[FrameModel], options: Iterable[str]
) -> tuple[Mapping[str, Any], Mapping[str, Path]]:
    """Return the values of the options, and the files of the others."""
    known = options_of(model.Options.model_json_schema())
    texts, files = dict[str, str](), dict[str, Path]()
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in known:
            raise ConfigurationError(f"--set {option}: must be KEY=VALUE, where KEY is {_names(known)}")
        if value.startswith("@"):
            files[name] = Path(value[1:])
            if not files[name].is_file():
                raise ConfigurationError(f"--set {name}: there is no file {files[name]}")
        else:
            texts[name] = value
    try:
        require_options(known, texts.keys() | files.keys())
        return read_options(known, texts, files), files
    except InvalidInput as error:
        raise ConfigurationError(f"--set {error.field}: {error}") from error


def _names(known: Iterable[str]) -> str:
    return "one of " + ", ".join(known) if known else "an option, and this model has none"
