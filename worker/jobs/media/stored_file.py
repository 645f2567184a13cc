"""A file that is on no disk of this machine, to be read by parts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["StoredFile"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`size` bytes, read a block at a time."""

    size: int
    #: The bytes from the first number up to, not including, the second. Raises `MediaUnavailable`.
    read: Callable[[int, int], bytes]
    #: Bytes of a block.
    block: int = 4 * 2**20

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `stop`. Raises `MediaUnavailable`."""
        stop = self.size if stop is None else stop
        for first in range(start, stop, self.block):
            yield self.read(first, min(first + self.block, stop))
