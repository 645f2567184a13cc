"""A family: what an engine may start, and leave behind.

The processes append their pids to a file: a child made by spawn, its child that may be stubborn and ignore
SIGTERM, one that has left the session, and a fork that never called exec. A block of shared memory has a
resource tracker look after it.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from tests.support.stack import eventually

__all__ = ["SIZE", "beget", "gone", "members"]

#: How many they are.
SIZE = 4


def beget(book: Path, *, stubborn: bool) -> None:
    """Start the family, and wait until it is complete."""
    context = multiprocessing.get_context("spawn")
    memory = SharedMemory(create=True, size=1)
    book.with_suffix(".shm").write_text(memory.name)
    memory.close()  # and is never unlinked
    context.Process(target=_child, args=(book, stubborn)).start()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _sign(book)
    eventually(lambda: len(members(book)) == SIZE, "the whole family")


def members(book: Path) -> list[int]:
    """Their pids."""
    return [int(line) for line in book.read_text().splitlines()] if book.exists() else []


def gone(pids: Sequence[int]) -> bool:
    """Whether none of them runs any more; who waits to be reaped does not."""
    return all(_state(pid) in ("", "Z") for pid in pids)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _child(book: Path, stubborn: bool) -> None:
    grandchild = _stubborn if stubborn else _sign
    multiprocessing.get_context("spawn").Process(target=grandchild, args=(book,)).start()
    code = f"from pathlib import Path; from tests.support.family import _sign; _sign(Path({str(book)!r}))"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    _sign(book)


def _stubborn(book: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _sign(book)


def _sign(book: Path) -> None:
    with book.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        signal.pause()
