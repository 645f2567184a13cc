"""The signals that end a worker, before Celery installs its handlers."""

import subprocess
import sys

#: A worker that still loads, and that has forked. First the fork gets a signal, then the worker.
FORK = """
import os, signal
from worker.process.shutdown_signals import ShutdownSignals
ShutdownSignals(before_exit=lambda: print("exits", flush=True))
reader, writer = os.pipe()
if (child := os.fork()) == 0:
    os.write(writer, b"!")
    while True:
        signal.pause()
os.read(reader, 1)
os.kill(child, signal.SIGTERM)
print("fork", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("is still there")
"""


def test_shutdown_signals_of_fork_leave_worker_alone() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.returncode) == ("fork 1\nexits\n", 0), done.stderr
