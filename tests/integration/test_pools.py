"""Any start that would fork a worker, or share its model, is refused, with the reason; others pin first."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.stack import Stack
from worker.jobs.settings import Settings, child_env

#: A worker that tells, when it is to choose its device, whether torch has been imported; it gets none.
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


def end_of(command: Sequence[str], settings: Settings) -> str:
    """What the worker says as it ends at once."""
    env = child_env(settings.replace(worker="chat", devices="cpu"))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "--pool prefork is refused: a GPU worker is one process with one warm model"),
        (["--pool", "gevent"], "CUDA cannot be re-initialised in a forked subprocess"),
        (["--pool", "solo", "--beat"], "--beat is refused: it would fork the worker, CUDA and all"),
        (["--pool", "solo", "--autoscale", "4,1"], "--autoscale is refused: a GPU worker is one process"),
        (["--pool", "solo", "-Q", "chat.other"], "-Q chat.other is refused: this worker has one model"),
    ],
)
def test_what_would_fork_or_share_the_model_is_refused(
    settings: Settings, options: list[str], why: str
) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", *options]
    assert why in end_of(command, settings)


def test_torch_is_not_even_imported_when_the_device_is_chosen(settings: Settings) -> None:
    command = [sys.executable, "-c", PINNING, "-A", "worker.app", "worker", "--pool", "solo"]
    assert "stoker: torch is imported: False" in end_of(command, settings)


def test_a_worker_that_serves_has_started_its_warden_and_forked_nobody(stack: Stack) -> None:
    assert stack.finished(stack.chat("Hello", max_tokens=2))[0]["state"] == "succeeded"
    for name in ("chat", "video"):
        tasks = Path(f"/proc/{stack.processes[name].pid}/task")
        children = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        [warden] = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
        assert "/worker/process/reaper.py\0" in warden
