"""Finds the class of a model by the name that an operator gives."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from worker.jobs.errors import ConfigurationError
from worker.video.model import FrameModel
from worker.video.models.contract import check_class

__all__ = ["ENTRY_POINTS", "MODELS", "FoundModel", "find_model"]

#: The models of Stoker: their classes by name.
MODELS: dict[str, str | type[FrameModel]] = {
    "selfie_segmentation": "worker.video.models.selfie_segmentation:SelfieSegmentation",
    "esrgan-slim-x2": "worker.video.models.esrgan_slim:EsrganSlim",
    "face_landmarks": "worker.video.models.face_landmarks:FaceLandmarks",
}
#: The group of entry points in which an installed package can name its models.
ENTRY_POINTS = "stoker.frame_models"
#: The beginning of the name of a file that spandrel reads.
SPANDREL = "spandrel:"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that can be loaded, and its name.

    `version` changes with the code of the model and with its weights.
    """

    name: str
    model: type[FrameModel]
    weights: Path | None
    version: str


def find_model(spec: str, name: str, weights: Path | None = None) -> FoundModel:
    """Return the model that `spec` names.

    `spec` is the name of a model of Stoker, `package.module:Class`, the name of an entry point in the group
    `stoker.frame_models`, a `.pt2` file of `torch.export`, or `spandrel:` with a `.safetensors` file.

    Raises `ConfigurationError` if there is no such model, or it has not the form of a `FrameModel`.
    """
    model, own_weights = _find(spec)
    check_class(model, spec)
    weights = weights or own_weights
    if weights and not weights.exists():
        raise ConfigurationError(f"the weights of the video model do not exist: {weights}")
    return FoundModel(name, model, weights, f"{_code_version(model)}-{_weights_version(weights)}")


def _find(spec: str) -> tuple[Any, Path | None]:
    """Return the class of the model, and its weights if `spec` names them."""
    if spec.startswith(SPANDREL):
        from worker.video.models.spandrel import SpandrelModel

        return SpandrelModel, Path(spec.removeprefix(SPANDREL)).expanduser()
    if spec.endswith(".pt2"):
        from worker.video.models.exported_program import ExportedModel

        return ExportedModel, Path(spec).expanduser()
    if (known := MODELS.get(spec)) is not None:
        return _import(known, spec) if isinstance(known, str) else known, None
    if ":" in spec:
        return _import(spec, spec), None
    for point in entry_points(group=ENTRY_POINTS, name=spec):
        return _import(point.value, spec), None
    raise ConfigurationError(
        f"there is no video model {spec}: name one of {', '.join(MODELS)}, a class as package.module:Class, "
        f"an entry point of the group {ENTRY_POINTS}, a .pt2 file, or spandrel:FILE.safetensors"
    )


def _import(target: str, spec: str) -> Any:
    """Return the object at `package.module:Class`. Modules in the current folder are found, too."""
    module, _, path = target.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ConfigurationError(f"the video model {spec} cannot be imported ({reason})") from error
    return found


def _code_version(model: type[FrameModel]) -> str:
    """Return a digest of all Python files in the package of the model's module."""
    digest = hashlib.sha256(f"{model.__module__}:{model.__qualname__}".encode())
    try:
        file = Path(inspect.getfile(model))
    except (TypeError, OSError):  # it has no file
        return digest.hexdigest()[:16]
    in_package = "." in model.__module__ or file.name == "__init__.py"
    for path in sorted(file.parent.rglob("*.py")) if in_package else [file]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _weights_version(weights: Path | None) -> str:
    """Return a digest of the file, or of all files in the folder."""
    digest = hashlib.sha256()
    files = [] if weights is None else [weights] if weights.is_file() else sorted(weights.rglob("*"))
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
