"""What a worker does when it is told something, before Celery listens."""

import subprocess
import sys

#: A worker that loads, and a fork of it that is ended.
FORK = """
import os, signal
from worker.process.shutdown_signals import ShutdownSignals
ShutdownSignals(leave=lambda: print("leaves", flush=True))
hears, says = os.pipe()
if (child := os.fork()) == 0:
    os.write(says, b"!")
    while True:
        signal.pause()
os.read(hears, 1)
os.kill(child, signal.SIGTERM)
print("fork", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("is still there")
"""


def test_a_fork_that_is_ended_takes_nothing_of_its_worker_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.returncode) == ("fork 1\nleaves\n", 0), done.stderr
