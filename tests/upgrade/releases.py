"""The two releases of the test: the last one, which is kept as a wheel in `release/`, and this one."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

__all__ = ["Release", "last_release", "this_release"]

#: `make release-wheel` fills it.
FOLDER = Path(__file__).with_name("release")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Stoker with the scripted models that its tests had. `path` is its PYTHONPATH."""

    name: str
    version: str
    path: str

    @property
    def env(self) -> dict[str, str]:
        """The environment in which a process runs this release, with the libraries of the current one."""
        return dict(os.environ) | {"PYTHONPATH": self.path}


def last_release(folder: Path) -> Release:
    """Unpack the wheel of the last release into the folder."""
    [wheel] = FOLDER.glob("*.whl")
    with ZipFile(wheel) as file:
        file.extractall(folder)
    number = wheel.name.split("-")[1]
    return Release(number, number, os.pathsep.join([str(folder), str(FOLDER / "stand_ins.zip")]))


def this_release() -> Release:
    """Return the code under test."""
    return Release("this", version("stoker"), str(ROOT))
