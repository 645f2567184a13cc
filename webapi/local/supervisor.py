"""Starts child processes, restarts them when they die, and stops them in order."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

from webapi.local.log_files import LineReader, rotate, tail
from worker.jobs.errors import StokerError
from worker.jobs.logs.formats import message_of

__all__ = ["Child", "ChildFailed", "Supervisor", "spawn"]

#: Shortest and longest wait before a dead child is restarted, in seconds. The wait doubles at each death.
BACKOFF_S = (1.0, 30.0)
#: After a life of this many seconds the next wait is the shortest again.
LONG_LIFE_S = 60.0
#: A child that has never been ready is given up after so many failures of the same kind in a row.
SAME_FAILURES = 3
#: Seconds that children have to end after a second SIGTERM.
HAND_BACK_S = 10.0


class ChildFailed(StokerError):
    """A child process fails in the same way each time that it starts."""

    code = "child_failed"


def spawn(argv: Sequence[str], env: Mapping[str, str], output: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    """Start a child process in a new session, so that a Ctrl-C in the terminal does not reach it.

    On Linux the child gets SIGTERM when this process dies. `output` is the file for stdout and stderr.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    pr_set_pdeathsig = 1
    return subprocess.Popen(  # noqa: S603
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=prctl and (lambda: prctl(pr_set_pdeathsig, signal.SIGTERM)),
    )


@dataclass(slots=True, eq=False)
class Child:
    """A child process that the supervisor keeps alive, and its current state."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    #: Time of the last start or, while there is no process, of the next one, by the supervisor's clock.
    at: float = 0.0
    #: The wait before the next restart, in seconds.
    backoff_s: float = BACKOFF_S[0]
    #: Whether it has been ready or has lived long, so that it can work.
    proved: bool = False
    #: Its exit code and the last message in its log, without numbers, at its last end.
    failure: tuple[int, str] = (0, "")
    #: The number of ends in a row with this failure.
    failures: int = 0
    #: Reads the lines of the log that were not printed yet.
    reader: LineReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = LineReader(self.log)

    def start(self, now: float) -> None:
        """Start the process at the time `now`. Its output is appended to the log."""
        with self.log.open("ab") as output:
            self.process, self.at = spawn(self.argv, self.env, output), now

    def note_failure(self, code: int) -> str:
        """Record that the process has ended with this code, and return the last message in its log."""
        why = message_of(tail(self.log, 1))
        failure = code, re.sub(r"[0-9]+", "", why)  # process ids and times differ
        self.failures = self.failures + 1 if failure == self.failure else 1
        self.failure = failure
        return why

    def print_new_lines(self) -> None:
        """Print the lines of the log that are complete and were not printed yet."""
        for line in self.reader.new_lines():
            click.echo(f"{self.name} | {line}")


class Supervisor:
    """A supervisor of child processes: it restarts a child that dies, after a wait that grows at each death.

    It gives up if a child fails in the same way `SAME_FAILURES` times before it has ever been ready. `clock`
    returns the time in seconds. A log of `max_log_bytes` is rotated.
    """

    def __init__(self, max_log_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_log_bytes = max_log_bytes
        self.clock = clock
        self.children: list[Child] = []

    def start_child(self, child: Child) -> None:
        """Start the child and keep it alive until `stop_children` names it."""
        child.start(self.clock())
        self.children.append(child)

    def tick(self) -> None:
        """Check all children once: rotate their logs, and restart the dead ones when they are due.

        Raises `ChildFailed` for a child that cannot work.
        """
        for child in self.children:
            child.reader.open()
            rotate(child.log, self.max_log_bytes)
            now = self.clock()
            if child.process is None:
                if now >= child.at:
                    child.start(now)
            elif (code := child.process.poll()) is not None:
                self._schedule_restart(child, child.process, code)

    def _schedule_restart(self, child: Child, process: "subprocess.Popen[bytes]", code: int) -> None:
        now, why = self.clock(), child.note_failure(code)
        if now - child.at >= LONG_LIFE_S:
            child.backoff_s, child.proved = BACKOFF_S[0], True
        # Processes that the child started must not keep a port or a device. The processes of a worker are
        # also ended by its reaper.
        _signal_group(process, signal.SIGTERM)
        if child.failures >= SAME_FAILURES and not child.proved:
            how = f"it has ended {child.failures} times ({code}) with: {why} (see {child.log})"
            raise ChildFailed(f"{child.name} does not start: {how}")
        click.echo(f"{child.name} ended ({code}), restart in {child.backoff_s:.0f} s: {why} ({child.log})")
        child.process, child.at = None, now + child.backoff_s
        child.backoff_s = min(2 * child.backoff_s, BACKOFF_S[1])

    def stop_children(self, names: Sequence[str], wait_s: float) -> None:
        """Stop the children with these names, and stop supervising them.

        They get SIGTERM and `wait_s` seconds to end; a worker drains. On a Ctrl-C meanwhile they get a second
        SIGTERM and `HAND_BACK_S` seconds; a worker then hands its jobs back at once. Finally SIGKILL ends all
        processes that remain in their process groups.
        """
        stopped = [c for c in self.children if c.name in names]
        running = [c.process for c in stopped if c.process]
        self.children = [c for c in self.children if c.name not in names]
        for patience_s in (wait_s, HAND_BACK_S):
            try:
                self._terminate(running, patience_s)
                break
            except subprocess.TimeoutExpired:
                click.echo(f"killing the remaining processes of {', '.join(names)}")
                break
            except KeyboardInterrupt:
                click.echo(f"stopping at once: {', '.join(names)}")
        for process in running:
            _signal_group(process, signal.SIGKILL)
            process.wait()
        for child in stopped:
            child.reader.close()

    def _terminate(self, processes: "Sequence[subprocess.Popen[bytes]]", wait_s: float) -> None:
        for process in processes:
            process.terminate()
        deadline = self.clock() + wait_s
        for process in processes:
            process.wait(max(0.0, deadline - self.clock()))


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send the signal to the process and the processes it started, as far as they are still running."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
