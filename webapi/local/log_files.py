"""The log files of the processes of `stoker up`: their rotation, and readers that go on over one."""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO

__all__ = ["KEPT", "LineReader", "rotate", "tail"]

#: Older files that are kept of each log: `web.log.1` is the newest of them.
KEPT = 3


def rotate(log: Path, max_bytes: int) -> None:
    """Rename the log if it has this size, and those before it. The oldest one is removed.

    The process that writes to it opens a new file before its next line (see `LineHandler`).
    """
    with suppress(FileNotFoundError):
        if log.stat().st_size < max_bytes:
            return
        for number in range(KEPT - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(_older(log, number), _older(log, number + 1))
        os.replace(log, _older(log, 1))


def tail(log: Path, lines: int) -> str:
    """Return the last `lines` lines of the log, which may be in the file before it."""
    found: list[str] = []
    for path in (log, _older(log, 1)):
        if len(found) < lines:
            with suppress(FileNotFoundError):
                found = path.read_text("utf-8", errors="replace").splitlines() + found
    return "\n".join(found[-lines:])


class LineReader:
    """Reads the lines of a log that are complete and were not read yet, from all its files.

    It must `open` each file before the file is renamed.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        #: The file before the last rotation, in which a process may finish its last line, and today's file.
        self._files: list[IO[bytes]] = []

    def new_lines(self) -> Iterator[str]:
        """Return the new lines."""
        self.open()
        return chain.from_iterable(map(_new_lines, self._files))

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.pop().close()

    def open(self) -> None:
        """Open the log if it is another file than before."""
        with suppress(FileNotFoundError):
            now = self._log.open("rb")
            if self._files and os.path.samestat(os.fstat(now.fileno()), os.fstat(self._files[-1].fileno())):
                now.close()
                return
            if len(self._files) == 2:
                self._files.pop(0).close()
            self._files.append(now)


def _new_lines(file: IO[bytes]) -> list[str]:
    start = file.tell()
    new, newline, _ = file.read().rpartition(b"\n")
    file.seek(start + len(new + newline))
    return new.decode(errors="replace").splitlines()


def _older(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
