"""Processes that a benchmark starts, and ends with it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from webapi.supervisor import spawn
from worker.jobs.settings import Settings, child_env

__all__ = ["process"]


@contextmanager
def process(argv: Sequence[str], settings: Settings, log: Path) -> Iterator[psutil.Process]:
    """The process, until the block ends."""
    with log.open("ab") as file:
        child = spawn(argv, child_env(settings), file)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait()
