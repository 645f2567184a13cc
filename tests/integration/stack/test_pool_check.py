"""The checks at a worker's start: it refuses options that would fork it or share its model."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.stack import Stack
from worker.jobs.settings import Settings, child_env

#: A worker that reports whether torch has been imported when it leases its device. It gets no device.
PINNING = """
import sys
from celery.__main__ import main
from worker.devices import lease as module
from worker.jobs.errors import NoDevice
def lease(*_, **__):
    raise NoDevice(f"torch is imported: {'torch' in sys.modules}")
module.lease = lease
main()
"""


def refusal(command: Sequence[str], settings: Settings) -> str:
    """Run a worker that ends at once, and return its stderr."""
    env = child_env(settings.replace(worker="chat", devices="cpu"))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--pool prefork is refused: a GPU worker is one process with one warm model"),
        (["--pool", "gevent"], "CUDA cannot be re-initialised in a forked subprocess"),
        (["--pool", "solo", "--beat"], "--beat is refused: it would fork the worker, CUDA and all"),
        (["--pool", "solo", "--autoscale", "4,1"], "--autoscale is refused: a GPU worker is one process"),
        (["--pool", "solo", "-Q", "chat.other"], "-Q chat.other is refused: this worker has one model"),
    ],
)
def test_worker_refuses_option_that_forks_or_shares_model(
    settings: Settings, options: list[str], reason: str
) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", *options]
    assert reason in refusal(command, settings)


def test_worker_leases_device_before_importing_torch(settings: Settings) -> None:
    command = [sys.executable, "-c", PINNING, "-A", "worker.app", "worker", "--pool", "solo"]
    assert "stoker: torch is imported: False" in refusal(command, settings)


REAPER = "/worker/process/reaper.py\0"


def test_worker_starts_reaper_and_fork_server_only(stack: Stack) -> None:
    assert stack.finished(stack.chat("Hello", max_tokens=2))[0]["state"] == "succeeded"
    fork_server = "-m\0worker.video.clip_tasks\0"
    for name, programs in (("chat", [REAPER]), ("video", [REAPER, fork_server])):
        tasks = Path(f"/proc/{stack.processes[name].pid}/task")
        children = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        commands = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
        assert len(commands) == len(programs)
        assert all(any(program in command for command in commands) for program in programs)
