"""The standard streams as loggers, and the exceptions that nobody catches."""

import io
import logging
import sys
import threading
from types import TracebackType
from typing import Any

__all__ = ["LOGGERS", "Printed", "log_uncaught"]

#: The loggers of what is printed.
LOGGERS = ("stdout", "stderr")
#: The longest line. A longer one is logged in parts.
_MAX_CHARS = 8192

log = logging.getLogger(__name__)


class _Thread(threading.local):
    """The beginning of a line that this thread has printed, and whether it is logging a line now."""

    line = ""
    busy = False


class Printed(io.TextIOBase):
    """A stream whose lines are logged. Of a progress bar only the last state is."""

    encoding = "utf-8"

    def __init__(self, logger: logging.Logger, level: int, fd: int) -> None:
        super().__init__()
        self._logger = logger
        self._level = level
        self._fd = fd
        self._thread = _Thread()

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the real stream, for code that writes to it past Python."""
        return self._fd

    def write(self, text: str) -> int:
        """Log the complete lines."""
        *lines, rest = (self._thread.line + text).split("\n")
        if len(rest) > _MAX_CHARS:
            lines, rest = [*lines, rest], ""
        self._thread.line = rest
        for line in lines:
            self._log(line.rpartition("\r")[2].rstrip())
        return len(text)

    def _log(self, line: str) -> None:
        if line and not self._thread.busy:  # an error of the logging itself must not lead to another one
            self._thread.busy = True
            try:
                self._logger.log(self._level, "%s", line)
            finally:
                self._thread.busy = False


def log_uncaught() -> None:
    """Log what is printed to the standard streams, and exceptions that end the process or a thread."""
    for name, level, fd in (("stdout", logging.INFO, 1), ("stderr", logging.WARNING, 2)):
        setattr(sys, name, Printed(logging.getLogger(name), level, fd))
    sys.excepthook = _on_exception
    threading.excepthook = _on_thread_exception
    sys.unraisablehook = _on_unraisable


def _on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("an exception ends the process", exc_info=(kind, error, trace))


def _on_thread_exception(args: Any) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        log.error("an exception ends the thread %s", name, exc_info=args.exc_value)


def _on_unraisable(args: Any) -> None:
    if sys.is_finalizing():  # Python takes the loggers apart, too
        return
    log.error("an exception is ignored: %s", args.err_msg, exc_info=args.exc_value)
