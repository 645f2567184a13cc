"""A tree of processes as an engine may start it, and leave it behind.

The tree has four processes, each of which appends its pid to a file:

- a child, started by multiprocessing's spawn,
- a child of that child, which may be stubborn and ignore SIGTERM,
- a process that has left the session,
- a fork that has never called exec.

There is also a block of shared memory, which a resource tracker looks after.
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

__all__ = ["SIZE", "all_gone", "record_pid_and_wait", "start_tree", "tree_pids"]

#: The number of processes in the tree.
SIZE = 4


def start_tree(pid_file: Path, *, stubborn: bool) -> None:
    """Start the processes, and wait until all have recorded their pids.

    The name of the shared memory goes to a file of the same name with the suffix `.shm`.
    """
    context = multiprocessing.get_context("spawn")
    memory = SharedMemory(create=True, size=1)
    pid_file.with_suffix(".shm").write_text(memory.name)
    memory.close()  # but never unlink it
    context.Process(target=_child, args=(pid_file, stubborn)).start()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        record_pid_and_wait(pid_file)
    eventually(lambda: len(tree_pids(pid_file)) == SIZE, "the whole tree")


def tree_pids(pid_file: Path) -> list[int]:
    """Return the pids that have been recorded so far."""
    return [int(line) for line in pid_file.read_text().splitlines()] if pid_file.exists() else []


def all_gone(pids: Sequence[int]) -> bool:
    """Return whether none of the processes runs any more. A zombie does not run."""
    return all(_state(pid) in ("", "Z") for pid in pids)


def record_pid_and_wait(pid_file: Path) -> None:
    """Append this process' pid to the file, then wait for signals for ever."""
    with pid_file.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        signal.pause()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _child(pid_file: Path, stubborn: bool) -> None:
    grandchild = _ignore_sigterm if stubborn else record_pid_and_wait
    multiprocessing.get_context("spawn").Process(target=grandchild, args=(pid_file,)).start()
    code = "from pathlib import Path; from tests.support.process_tree import record_pid_and_wait; "
    code += f"record_pid_and_wait(Path({str(pid_file)!r}))"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    record_pid_and_wait(pid_file)


def _ignore_sigterm(pid_file: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record_pid_and_wait(pid_file)
