"""Sandboxes: whatever happens in one of them, the worker goes on, and no process remains."""

import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.support.process_tree import all_gone
from tests.support.stack import eventually
from tests.support.video.sandboxes import shared_sandboxes
from worker.jobs.errors import BadVideo, EngineDied, EngineFailed, JobFailed, OutOfMemory
from worker.jobs.limits import DEFAULTS
from worker.video.sandbox import sandbox as sandbox_module
from worker.video.sandbox.sandboxes import Sandboxes

#: The limit with the default size of frames.
MEMORY_BYTES = 2 * 2**30 + 256 * DEFAULTS.max_pixels
PROGRAM = "tests.support.video.sandbox_program"


@pytest.fixture
def sandboxes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandboxes]:
    """Sandboxes of a worker whose environment holds a secret."""
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://:secret@redis/0")
    sandboxes = Sandboxes(PROGRAM)
    sandboxes.start()
    yield sandboxes
    sandboxes.stop()


def no_check() -> None:
    pass


def test_sandbox_has_no_secrets_and_leaves_no_core_dump(sandboxes: Sandboxes) -> None:
    with sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
        answer = sandbox.call("describe")
    assert answer["environment"].keys() <= {"PYTHONPATH", "OPENBLAS_NUM_THREADS", "LC_CTYPE"}
    assert answer["limits"] == {"core": 0, "space": MEMORY_BYTES, "data": resource.RLIM_INFINITY}


def test_sandbox_on_gpu_has_gpu_in_environment_and_limit_without_address_space() -> None:
    """CUDA reserves 14 GiB of address space."""
    sandboxes = Sandboxes(PROGRAM, {"CUDA_VISIBLE_DEVICES": "GPU-1"})
    sandboxes.start()
    with sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
        answer = sandbox.call("describe")
    sandboxes.stop()
    assert answer["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert answer["limits"] == {"core": 0, "space": resource.RLIM_INFINITY, "data": MEMORY_BYTES}


@pytest.mark.parametrize(
    ("task", "failure"), [("crash", BadVideo), ("use_memory", OutOfMemory), ("fail", EngineFailed)]
)
def test_sandbox_failure_is_one_of_its_job(task: str, failure: type[JobFailed]) -> None:
    sandboxes = shared_sandboxes(PROGRAM)
    with sandboxes.sandbox(DEFAULTS, no_check) as sandbox, pytest.raises(failure):
        sandbox.call(task)
    with sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
        assert sandbox.call("describe")["pid"]


class GiveUpError(Exception):
    pass


def test_sandbox_that_hangs_is_killed_when_the_caller_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up() -> None:
        raise GiveUpError

    monkeypatch.setattr(sandbox_module, "WAIT_S", 0.1)
    with shared_sandboxes(PROGRAM).sandbox(DEFAULTS, give_up) as sandbox:
        pid = sandbox.call("describe")["pid"]
        with pytest.raises(GiveUpError):
            sandbox.call("hang")
    assert not psutil.pid_exists(pid)


def test_sandbox_goes_on_after_signals_to_all_processes_of_the_service(sandboxes: Sandboxes) -> None:
    """systemd sends SIGTERM to all processes of a service. Its worker may then drain for a while."""
    with sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
        process = psutil.Process(sandbox.call("describe")["pid"])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for one in (process, *process.parents()[:1]):
                one.send_signal(number)
        assert sandbox.call("describe")["pid"] == process.pid
    with sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
        assert sandbox.call("describe")["pid"] != process.pid


def test_sandbox_waits_while_sockets_have_a_default_timeout(sandboxes: Sandboxes) -> None:
    """Celery sets one while it stops. It makes new sockets non-blocking, for the other side too."""
    socket.setdefaulttimeout(0.001)
    try:
        with sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
            assert sandbox.call("describe")["pid"]
            pid = psutil.Process(sandbox.call("describe")["pid"])
            pid.suspend()
            answer = sandbox.submit(sandbox.receive)
            sandbox.send("describe")
            pid.resume()
            assert sandbox.wait(answer)["pid"] == pid.pid
    finally:
        socket.setdefaulttimeout(None)


def test_sandboxes_without_fork_server_break_the_engine(sandboxes: Sandboxes) -> None:
    with pytest.raises(EngineDied), sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
        psutil.Process(psutil.Process(sandbox.call("describe")["pid"]).ppid()).kill()
    with pytest.raises(EngineDied), sandboxes.sandbox(DEFAULTS, no_check):
        pass


def test_stuck_sandbox_ends_with_killed_fork_server(sandboxes: Sandboxes) -> None:
    with suppress(EngineDied), sandboxes.sandbox(DEFAULTS, no_check) as sandbox:
        stuck = psutil.Process(sandbox.call("describe")["pid"])
        stuck.suspend()
        psutil.Process(stuck.ppid()).kill()
    eventually(lambda: all_gone([stuck.pid]), "the end of the sandbox")


#: A worker whose sandbox is in native code for years. It prints the ids of the fork server and the sandbox.
WORKER = f"""
from tests.support.video.sandboxes import shared_sandboxes
from worker.jobs.limits import DEFAULTS

sandboxes = shared_sandboxes({PROGRAM!r})
with sandboxes.sandbox(DEFAULTS, lambda: None) as sandbox:
    print(sandboxes.server_pid, sandbox.call("describe")["pid"], flush=True)
    sandbox.call("hang")
"""


def test_sandbox_in_native_code_ends_with_killed_worker() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        pids = [int(word) for word in worker.stdout.readline().split()]
        busy = psutil.Process(pids[1]).cpu_times().user + 0.2
        eventually(lambda: psutil.Process(pids[1]).cpu_times().user > busy, "a busy sandbox")
        worker.kill()
    eventually(lambda: all_gone(pids), "the end of the fork server and of the sandbox")
