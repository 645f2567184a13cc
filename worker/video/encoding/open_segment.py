"""A segment that is being encoded or waits to be published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(slots=True)
class OpenSegment:
    """The results of the frames `first` to `end` - 1 of a clip, which `encoder` writes to the file `path`.

    `calls` are those of the encoder, for `batches` batches so far. `state` is the file of the model's state.
    """

    first: int
    end: int
    path: Path
    encoder: SegmentEncoder
    calls: Strand
    batches: int = 0
    is_encoded: bool = False
    state: Path | None = None

    def discard(self) -> None:
        """End the encoder, without the calls that wait, and delete the files."""
        self.calls.close()
        self.encoder.close()
        for path in filter(None, (self.path, self.state)):
            path.unlink(missing_ok=True)
