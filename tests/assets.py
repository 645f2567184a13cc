"""The model files and clips that tests use."""

from pathlib import Path


def asset(name: str) -> Path:
    return Path("/tmp/models") / name
