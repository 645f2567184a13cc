"""A segment that is being encoded or waits to be published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from worker.video.encoding.strand import Strand

__all__ = ["OpenSegment", "SegmentEncoder"]


class SegmentEncoder(Protocol):
    """Encoder of one segment's results into a file. `suffix` is that of the segment's name.

    All methods but `close` may raise OSError or `av.FFmpegError`.
    """

    suffix: str

    def encode(self, results: Any, pts: Sequence[int]) -> None:
        """Encode the results of one batch, which belong to the times `pts`."""

    def finish(self) -> None:
        """Complete the file."""

    def close(self) -> None:
        """Close the file without completing it. Does nothing after `finish`."""


@dataclass
class OpenSegment:
    """The results of the frames `first` to `end` - 1 of a clip, for the file `path`.

    `calls` are those of the encoder, for `batches` batches so far, and `open_encoder` starts it. `state` is
    the file of the model's state.
    """

    first: int
    end: int
    path: Path
    calls: Strand
    open_encoder: Callable[[Path], SegmentEncoder]
    batches: int = 0
    is_encoded: bool = False
    state: Path | None = None

    @cached_property
    def encoder(self) -> SegmentEncoder:
        """The encoder, which the first use opens. Raises OSError or `av.FFmpegError`."""
        return self.open_encoder(self.path)

    def discard(self) -> None:
        """End the encoder, without the calls that wait, and delete the files."""
        self.calls.close()
        if "encoder" in vars(self):
            self.encoder.close()
        for path in filter(None, (self.path, self.state)):
            path.unlink(missing_ok=True)
