"""The handler that writes log lines to the standard error of the process."""

import logging
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["LineHandler"]

_STDOUT, _STDERR = 1, 2


class LineHandler(logging.Handler):
    """Writes each line in one call, so that the lines of processes that share a file never mix.

    The lines go to the file descriptor, not to `sys.stderr`, which may write to this log itself. If the
    process has a log `file`, both standard streams of the process lead to it, also after it was renamed: a
    new file is then opened under its name. So code that is not Python's writes to the new file, too.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Open the file, if there is one. Raises `OSError`."""
        super().__init__()
        self._file = file
        if file:
            self._follow(file)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of the record. If the disk is full, the line is lost.

        If no new file can be opened, the process goes on in the renamed one.
        """
        line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        if self._file:
            with suppress(OSError):
                self._follow(self._file)
        try:
            while line:
                line = line[os.write(_STDERR, line) :]
        except OSError:
            pass  # a log line is not worth more than the job that it is about

    def _follow(self, file: Path) -> None:
        """Let the standard streams lead to the file, unless they do."""
        try:
            if os.path.samestat(os.stat(file), os.fstat(_STDERR)):
                return
        except FileNotFoundError:
            pass
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for stream in (_STDOUT, _STDERR):
            os.dup2(opened, stream)
        os.close(opened)
