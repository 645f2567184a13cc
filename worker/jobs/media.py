"""Where a job's files lie: a folder a job, with names of our own, never the client's."""

import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JobFiles"]


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one video job under `Settings.media_dir`."""

    folder: Path

    @classmethod
    def of(cls, media_dir: Path, job_id: str) -> "JobFiles":
        """The job's files, whether they exist or not."""
        return cls(media_dir / job_id)

    @property
    def clip(self) -> Path:
        """What the client uploaded."""
        return self.folder / "clip"

    @property
    def background(self) -> Path:
        """The background image, if the client uploaded one."""
        return self.folder / "background"

    @property
    def result(self) -> Path:
        """The finished video; it appears whole or not at all."""
        return self.folder / "result.mp4"

    def remove(self) -> None:
        """Remove them all; no error if there are none."""
        shutil.rmtree(self.folder, ignore_errors=True)
