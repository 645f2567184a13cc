"""Slots for uploads and probes, which all API processes of a host share.

Locked files represent them. If a process is killed, the kernel unlocks its files.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from webapi.http.problems import RETRY_AFTER_S
from worker.jobs.errors import TooManyUploads
from worker.jobs.settings import Settings

__all__ = ["Slots", "probe_slot", "upload_slot"]

#: Seconds between two attempts to take a slot.
RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Slots:
    """`count` slots, which are files in `folder`. One open file at a time can hold a slot."""

    folder: Path
    count: int

    def take(self) -> IO[bytes] | None:
        """Return the file of a free slot, or None if there is none.

        The slot is taken until the file is closed, in this process and in those that have inherited it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(self.count):
            file = (self.folder / f"{number}.lock").open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                return file
        return None

    def wait(self) -> IO[bytes]:
        """Wait for a free slot and return its file, as `take` does."""
        while not (file := self.take()):
            time.sleep(RETRY_S)
        return file


@contextmanager
def upload_slot(settings: Settings, owner: str) -> Iterator[None]:
    """Count an upload of this owner while the block runs.

    Raises `TooManyUploads` if the owner, or all owners together, have as many as the settings allow.
    """
    own, everyone = _slots(settings, owner, "uploads", settings.max_uploads_per_key, settings.max_uploads)
    with ExitStack() as stack:
        for slots, who in ((own, "This API key"), (everyone, "All clients together")):
            file = slots.take()
            if file is None:
                raise TooManyUploads(f"{who} may send {slots.count} uploads at a time.", RETRY_AFTER_S)
            stack.enter_context(file)
        yield


@contextmanager
def probe_slot(settings: Settings, owner: str) -> Iterator[tuple[int, ...]]:
    """Wait until another probe for this owner may run, and count it while the block runs.

    Yields the file descriptors that hold the slot. A child process that inherits them holds it too. One
    owner gets half of the slots, so that an owner with costly files does not make all others wait.
    """
    own, everyone = _slots(settings, owner, "probes", max(1, settings.max_probes // 2), settings.max_probes)
    with own.wait() as one, everyone.wait() as other:
        yield one.fileno(), other.fileno()


def _slots(settings: Settings, owner: str, purpose: str, per_key: int, in_all: int) -> tuple[Slots, Slots]:
    """Return the slots of the owner and those of all owners."""
    folder = settings.home_dir / "slots" / purpose
    return Slots(folder / f"key-{owner}", per_key), Slots(folder / "all", in_all)
