"""The model files and clips that tests use, fetched on first use."""

from functools import cache
from pathlib import Path

from worker.assets import fetch
from worker.jobs.settings import Settings


@cache
def asset(name: str) -> Path:
    """Return the path of an asset of `worker.assets`."""
    return fetch(Settings.from_env().models_dir, name)
