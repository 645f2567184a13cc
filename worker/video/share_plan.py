"""The plan of a clip that several workers compute, and the interface to who computes what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["ClipPlan", "HelpBoard", "ShareBoard", "Taken"]


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """The segments of a clip, numbered from 0.

    They have `size` frames each, from frame `start` to before frame `frames`. The last one may be shorter.
    `folder` is the name of the folder of segments. It is another one for other code, weights, options or
    batch sizes, so only workers that make the same frames share a clip. `device` is the kind of their
    devices, which round differently.
    """

    folder: str
    size: int
    start: int
    frames: int
    device: str = ""

    @property
    def count(self) -> int:
        """The number of segments."""
        return -(-(self.frames - self.start) // self.size)

    def span(self, number: int) -> tuple[int, int]:
        """Return the first frame of a segment, and the one after its last frame."""
        first = self.start + number * self.size
        return first, min(first + self.size, self.frames)

    def number(self, first: int) -> int:
        """Return the number of the segment that begins with this frame."""
        return (first - self.start) // self.size

    def is_last(self, number: int) -> bool:
        """Return whether the clip ends with this segment."""
        return number == self.count - 1


class Taken(NamedTuple):
    """A segment to compute, or None if none is free, and the segments that other workers have published."""

    number: int | None
    done: Collection[int] = ()


class ShareBoard(Protocol):
    """The board of a running job's clip, as its owner sees it. It says who computes which segment.

    `worker` and `device` are those of this process.
    """

    worker: str
    device: str

    def take(self, plan: ClipPlan, *, first: int, held: Collection[int], steal: bool) -> Taken:
        """Take a segment. The first call offers the segments to other workers.

        `first` is the first segment whose batches are not all reported. `held` are those from there on that
        the owner computes or has. With `steal`, it may be one that a live worker computes.
        """

    def fetch(self) -> None:
        """Make the segments that other workers have published available in the job's folder here."""


class HelpBoard(Protocol):
    """The same, as a helper sees it."""

    worker: str
    device: str

    def take(self) -> int | None:
        """Take another segment. Return None if there is none, or if the helper shall end."""

    def go_on(self) -> bool:
        """Return whether the helper shall begin a segment that it has taken."""

    def finish(self, number: int) -> None:
        """Tell the owner that the segment is published."""
