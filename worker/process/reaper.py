"""The reaper: a small process beside a worker. When the worker has ended, it ends the processes that remain.

vLLM's processes outlive a worker that is killed, and keep its GPU. torch's compile workers may do so, too. No
process can clean up after its own SIGKILL, so another process must do it.

- The reaper reads from a pipe, which the kernel closes when the worker ends in any way.
- It then ends every process that carries the worker's mark in its environment. The worker's children inherit
  the mark, and so do their children, whatever parent, group or session they have by then. (A process group
  would lose the processes that leave it. PR_SET_PDEATHSIG reaches one generation only, and fires when the
  *thread* ends that started the process.)
- A fork of the worker that has not called exec carries no mark. It holds the pipe, so the reaper finds it.
- Each process gets SIGTERM first, so that it removes its shared memory, and SIGKILL later.

This file is also the reaper's program. It uses only the standard library, and takes 9 MB of memory.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress

__all__ = ["Reaper"]

#: The environment variable that holds the mark.
MARK = "STOKER_MARK"
#: Time from SIGTERM to SIGKILL, in which a process can clean up.
TERM_GRACE_S = 3.0
#: Time for the worker itself to end after `Reaper.release`. A worker that takes longer is held by its device.
WORKER_EXIT_S = 15.0
#: The reaper gives up after this time: only the kernel can end a process that survives SIGKILL for so long.
GIVE_UP_S = 60.0
#: How often the reaper looks for remaining processes.
POLL_S = 0.1


class Reaper:
    """The reaper of this process, seen from this process.

    Create it before any process that it must end: only processes that inherit `environment` carry the mark.
    """

    def __init__(self, worker_exit_s: float = WORKER_EXIT_S) -> None:
        import subprocess  # imported here because the reaper's own process stays smaller without it

        mark = os.urandom(16).hex()
        #: Variables that every process started from now on must inherit: the mark, and SPT_NOENV. Without
        #: SPT_NOENV, setproctitle (which vLLM's processes use) overwrites the environment that /proc shows.
        self.environment = {MARK: mark, "SPT_NOENV": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform == "linux":  # other systems have neither /proc nor a GPU
            program = [sys.executable, "-I", "-S", __file__, mark, str(os.getpid()), str(worker_exit_s)]
            self._process = subprocess.Popen(  # noqa: S603  # its arguments are our own
                program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )

    def release(self) -> None:
        """Have the reaper end all marked processes now: Python waits for its children before it exits.

        From now on this process has `worker_exit_s` seconds to end. The driver of a device that hangs may
        hold it for ever in an exit handler, which no Python code can interrupt. The reaper then kills it.
        """
        pipe = self._process.stdin if self._process else None
        if pipe is not None and not pipe.closed:
            with suppress(BrokenPipeError):  # the reaper was killed
                pipe.write(b"!")
                pipe.close()


class Leftovers:
    """The processes that the worker has started, directly or through others, and that still run."""

    def __init__(self, mark: str, worker: int) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._pipe = os.readlink("/proc/self/fd/0")
        self._others = {os.getpid(), worker}

    def pids(self) -> list[int]:
        """Return their process ids. Zombies are not among them."""
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [pid for pid in pids if self._has(pid)]

    def send_signal(self, pid: int, number: signal.Signals) -> None:
        """Send the signal, but never to a foreign process that has received the same pid meanwhile."""
        with suppress(ProcessLookupError, PermissionError):  # then go on with the other processes
            try:
                process = os.pidfd_open(pid)
            except (OSError, AttributeError):  # before Linux 5.3; pids are not reused within so short a time
                os.kill(pid, number)
                return
            try:
                if self._has(pid):
                    signal.pidfd_send_signal(process, number)
            finally:
                os.close(process)

    def _has(self, pid: int) -> bool:
        marked = self._mark in _read(pid, "environ").split(b"\0")
        return pid not in self._others and (marked or self._holds_pipe(pid))

    def _holds_pipe(self, pid: int) -> bool:
        with suppress(OSError):
            for file in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{file}") == self._pipe:
                        return True
        return False


def _read(pid: int, name: str) -> bytes:
    """Return the process' file of that name in /proc; empty if the process is gone."""
    with suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()
    return b""


def main(mark: str, worker: int, worker_exit_s: float) -> None:
    """Wait until the worker ends or calls `Reaper.release`, then end its leftovers.

    Kill the worker, too, if it is still there `worker_exit_s` seconds later.
    """
    while os.getppid() == worker and not select.select([0], [], [], 1.0)[0]:
        pass
    released_at = time.monotonic()
    os.chdir("/")
    _end_leftovers(Leftovers(mark, worker), worker, released_at)
    while os.getppid() == worker:
        if time.monotonic() > released_at + worker_exit_s:
            sys.stderr.write(f"stoker: worker {worker} is killed: it did not end in {worker_exit_s:.0f} s\n")
            os.kill(worker, signal.SIGKILL)
            return
        time.sleep(POLL_S)


def _end_leftovers(leftovers: Leftovers, worker: int, released_at: float) -> None:
    """End the leftovers, wait for their end, and report them on stderr.

    They have ended when two looks in a row find none. One look may miss a process that is calling exec.
    """
    signaled: dict[int, str] = {}
    empty_looks = 0
    while empty_looks < 2 and time.monotonic() < released_at + GIVE_UP_S:
        time.sleep(POLL_S)
        pids = leftovers.pids()
        # Resource trackers remove the shared memory of the others. They end by themselves after the others
        # and the worker have ended.
        trackers = [pid for pid in pids if b"resource_tracker" in _read(pid, "cmdline")]
        ended = pids == trackers if os.getppid() == worker else not pids
        empty_looks = empty_looks + 1 if ended else 0
        for pid in (pid for pid in pids if pid not in trackers):
            if pid not in signaled:
                signaled[pid] = _read(pid, "comm").decode(errors="replace").strip()
                leftovers.send_signal(pid, signal.SIGTERM)
            elif time.monotonic() > released_at + TERM_GRACE_S:
                leftovers.send_signal(pid, signal.SIGKILL)
    if signaled:
        names = ", ".join(f"{pid} ({name})" for pid, name in signaled.items())
        outcome = "are still there" if empty_looks < 2 else f"ended in {time.monotonic() - released_at:.1f} s"
        sys.stderr.write(f"stoker: worker {worker} left {names}: {outcome}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
