"""A program on a terminal of its own."""

import os
import pty
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from select import select

from tests.support.web.webstack import START_S, TIMEOUT_S

__all__ = ["Terminal", "on_terminal"]


class Terminal:
    """A terminal, and the program that reads and writes it. `shown` is all that the program has written."""

    def __init__(self, process: "subprocess.Popen[bytes]", fd: int) -> None:
        self.process, self._fd = process, fd
        self.shown = ""
        self._seen = 0

    def until(self, text: str) -> str:
        """Wait until the program writes the text, after what this waited for before. Return all before it."""
        assert self._reads(text, START_S), f"there is no {text!r} in {self.shown!r}"
        return self._take(text)

    def interrupt_until(self, text: str) -> str:
        """Press Ctrl-C until the program writes the text. Return as `until` does.

        readline overlooks a signal that comes just before it waits for a key.
        """
        for _ in range(int(START_S)):
            self.type("\x03")
            if self._reads(text, 1.0):
                return self._take(text)
        raise AssertionError(f"there is no {text!r} in {self.shown!r}")

    def _reads(self, text: str, silence_s: float) -> bool:
        """Read until the text is there, or until the program was silent for so many seconds."""
        while self.shown.find(text, self._seen) < 0:
            if not select([self._fd], [], [], silence_s)[0]:
                return False
            self.shown += os.read(self._fd, 4096).decode(errors="replace")
        return True

    def _take(self, text: str) -> str:
        at = self.shown.find(text, self._seen)
        start, self._seen = self._seen, at + len(text)
        return self.shown[start:at]

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._fd, keys.encode())

    def ends(self) -> int:
        """Wait until the program has ended, and return its exit status."""
        return self.process.wait(TIMEOUT_S)


@contextmanager
def on_terminal(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a program on a terminal of 100 columns. Ctrl-C is `\\x03`, and Ctrl-D is `\\x04`."""
    ours, its = pty.openpty()
    sized_by_terminal = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    login = ["setsid", "--ctty", "--wait", *argv]  # only the terminal of its session sends a program Ctrl-C
    try:
        termios.tcsetwinsize(its, (40, 100))
        with subprocess.Popen(
            login, env={**sized_by_terminal, "TERM": "xterm"}, stdin=its, stdout=its, stderr=its
        ) as process:
            os.close(its)
            try:
                yield Terminal(process, ours)
            finally:
                process.kill()
    finally:
        os.close(ours)
