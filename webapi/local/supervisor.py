"""The supervisor: child processes that are kept alive, and stopped in order."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

__all__ = ["Child", "Supervisor", "spawn", "tail"]

#: Wait before a dead child is started again: doubled at each death, back to the first after a long life.
BACKOFF_S = (1.0, 30.0)
LONG_LIFE_S = 60.0
#: For children that were told a second time.
HAND_BACK_S = 10.0


def spawn(argv: Sequence[str], env: Mapping[str, str], output: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    """A child in a session of its own: Ctrl-C does not reach it, and on Linux it ends when we die."""
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


def tail(log: Path, lines: int) -> str:
    """The log's last lines."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@dataclass(slots=True, eq=False)
class Child:
    """A process to be kept alive, and how it fares."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    #: When it was last started, or is to be started again.
    at: float = 0.0
    backoff_s: float = BACKOFF_S[0]
    #: How much of its log was shown.
    shown: int = 0

    def start(self, now: float) -> None:
        """Start the process; its output goes to the end of the log."""
        with self.log.open("ab") as output:
            self.process, self.at = spawn(self.argv, self.env, output), now

    def show(self) -> None:
        """Print the log's new lines."""
        with self.log.open("rb") as log:
            log.seek(self.shown)
            new, newline, _ = log.read().rpartition(b"\n")
        self.shown += len(new + newline)
        for line in new.decode(errors="replace").splitlines():
            click.echo(f"{self.name} | {line}")


class Supervisor:
    """Keeps children alive: one that dies is started again, each time a little later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.children: list[Child] = []

    def start(self, child: Child) -> None:
        """Start the child and keep it alive from now on."""
        child.start(self.clock())
        self.children.append(child)

    def tick(self) -> None:
        """Look after the children once."""
        for child in self.children:
            now = self.clock()
            if child.process is None:
                if now >= child.at:
                    child.start(now)
            elif (code := child.process.poll()) is not None:
                if now - child.at >= LONG_LIFE_S:
                    child.backoff_s = BACKOFF_S[0]
                why = f"{tail(child.log, 1)} ({child.log})"
                # What it has started must keep neither port nor device; a worker's warden sees to that, too.
                _signal_group(child.process, signal.SIGTERM)
                click.echo(f"{child.name} ended ({code}), again in {child.backoff_s:.0f} s: {why}")
                child.process, child.at = None, now + child.backoff_s
                child.backoff_s = min(2 * child.backoff_s, BACKOFF_S[1])

    def stop(self, names: Sequence[str], wait_s: float) -> None:
        """End these children: SIGTERM, another one after a Ctrl-C, then SIGKILL for what is still left.

        A worker takes the first to drain, and the second to hand its jobs back at once.
        """
        running = [c.process for c in self.children if c.name in names and c.process]
        self.children = [c for c in self.children if c.name not in names]
        for patience_s in (wait_s, HAND_BACK_S):
            try:
                self._terminate(running, patience_s)
                break
            except subprocess.TimeoutExpired:
                click.echo(f"killing what is left of {', '.join(names)}")
                break
            except KeyboardInterrupt:
                click.echo(f"no more time for {', '.join(names)}")
        for process in running:
            _signal_group(process, signal.SIGKILL)
            process.wait()

    def _terminate(self, processes: "Sequence[subprocess.Popen[bytes]]", wait_s: float) -> None:
        for process in processes:
            process.terminate()
        deadline = self.clock() + wait_s
        for process in processes:
            process.wait(max(0.0, deadline - self.clock()))


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Signal what is left of the group that the process leads: itself, or what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
