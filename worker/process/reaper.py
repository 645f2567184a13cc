"""The warden: a small process beside a worker that, when the worker has ended in any way, ends what it left.

vLLM's processes outlive a worker that is killed, and keep its GPU; so may torch's compile workers. Nobody can
clean up after their own SIGKILL, so another process must. It reads from a pipe that the kernel closes with
the worker, and then ends every process that carries the worker's mark in its environment: what the worker
starts inherits it, and so does what that starts, whatever parent, group or session it has by then. (A process
group loses those that leave it; PR_SET_PDEATHSIG reaches one generation, and fires when the *thread* ends
that started it.) A fork of the worker that has not called exec has no mark, but holds the pipe.

Each gets SIGTERM first, so that shared memory is removed, then SIGKILL. This file is the program too: it runs
on the standard library alone, in 9 MB.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress

__all__ = ["Reaper"]

#: The variable that holds the mark.
MARK = "STOKER_MARK"
#: For those that clean up after themselves, before SIGKILL.
PATIENCE_S = 3.0
#: For the worker itself, once it has dismissed its warden: what still holds it is a device that hangs.
END_S = 15.0
#: A process that even SIGKILL does not end is the kernel's to wait for.
GIVE_UP_S = 60.0
LOOK_AGAIN_S = 0.1


class Reaper:
    """The warden of this process; it must be there before anything is started that it is to end."""

    def __init__(self, end_s: float = END_S) -> None:
        import subprocess  # not at the top, for the warden itself is to stay small

        mark = os.urandom(16).hex()
        #: What is started from now on must inherit these. setproctitle, which vLLM's processes use, would
        #: overwrite the environment that the kernel shows of them.
        self.environment = {MARK: mark, "SPT_NOENV": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform == "linux":  # elsewhere there is neither /proc nor a GPU
            program = [sys.executable, "-I", "-S", __file__, mark, str(os.getpid()), str(end_s)]
            self._process = subprocess.Popen(  # noqa: S603  # ours
                program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )

    def release(self) -> None:
        """End now what was started: Python would wait for it before it lets this process end.

        This process has `end_s` seconds more. The driver of a device that hangs may keep it for ever, in exit
        handlers of its own that no Python code gets past; then it is killed.
        """
        pipe = self._process.stdin if self._process else None
        if pipe is not None and not pipe.closed:
            with suppress(BrokenPipeError):  # it was killed
                pipe.write(b"!")
                pipe.close()


class Leftovers:
    """The processes that the worker has started, and those that they have."""

    def __init__(self, mark: str, worker: int) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._pipe = os.readlink("/proc/self/fd/0")
        self._others = {os.getpid(), worker}

    def left(self) -> list[int]:
        """Their pids; who waits to be reaped is not among them."""
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [pid for pid in pids if self._has(pid)]

    def send(self, pid: int, number: signal.Signals) -> None:
        """Send the signal, but never to another process that has got the same pid since."""
        with suppress(ProcessLookupError, PermissionError):  # one that refuses must not save the others
            try:
                process = os.pidfd_open(pid)
            except (OSError, AttributeError):  # before Linux 5.3: pids do not come round in so short a time
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


def _read(pid: int, what: str) -> bytes:
    """A file of the process' in /proc; empty when it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/{what}", "rb") as file:
        return file.read()
    return b""


def main(mark: str, worker: int, end_s: float) -> None:
    """Wait for the worker to end, or to dismiss us, then for the end of all that it left, and of itself."""
    while os.getppid() == worker and not select.select([0], [], [], 1.0)[0]:
        pass
    ended_at = time.monotonic()
    os.chdir("/")
    ward = Leftovers(mark, worker)
    told: dict[int, str] = {}
    quiet = 0
    while quiet < 2 and time.monotonic() < ended_at + GIVE_UP_S:  # twice: one may have been calling exec
        time.sleep(LOOK_AGAIN_S)
        left = ward.left()
        # These remove the others' shared memory, and end by themselves when the others and the worker have.
        trackers = [pid for pid in left if b"resource_tracker" in _read(pid, "cmdline")]
        ended = left == trackers if os.getppid() == worker else not left
        quiet = quiet + 1 if ended else 0
        for pid in (pid for pid in left if pid not in trackers):
            if pid not in told:
                told[pid] = _read(pid, "comm").decode(errors="replace").strip()
                ward.send(pid, signal.SIGTERM)
            elif time.monotonic() > ended_at + PATIENCE_S:
                ward.send(pid, signal.SIGKILL)
    if told:
        names = ", ".join(f"{pid} ({name})" for pid, name in told.items())
        outcome = "are still there" if quiet < 2 else f"ended in {time.monotonic() - ended_at:.1f} s"
        sys.stderr.write(f"stoker: worker {worker} left {names}: {outcome}\n")
    while os.getppid() == worker:
        if time.monotonic() > ended_at + end_s:
            sys.stderr.write(f"stoker: worker {worker} is killed: it did not end in {end_s:.0f} s\n")
            os.kill(worker, signal.SIGKILL)
            return
        time.sleep(LOOK_AGAIN_S)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
