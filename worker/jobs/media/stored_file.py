"""A file in a remote store, which is read in blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["StoredFile"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of `size` bytes in a remote store."""

    size: int
    #: Return the bytes from the first offset up to, but not including, the second. Raises `MediaUnavailable`.
    read: Callable[[int, int], bytes]
    #: The size of a block in bytes.
    block: int = 4 * 2**20

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to, but not including, `stop`. Raises `MediaUnavailable`."""
        stop = self.size if stop is None else stop
        for first in range(start, stop, self.block):
            yield self.read(first, min(first + self.block, stop))
