"""The reaper: however a worker ends, none of the processes that it started remains."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process_tree import SIZE, all_gone, tree_pids
from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S
from webapi.local.commands import worker_argv
from webapi.local.log_files import tail
from webapi.local.supervisor import spawn
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings, child_env
from worker.process.reaper import Leftovers


class TreeWorker:
    """A worker that starts a tree of processes. The name of its model selects what it does next."""

    def __init__(self, settings: Settings, model: str) -> None:
        self.settings = settings.replace(worker="chat", devices="cpu", chat_model=model, drain_s=1)
        self.log = settings.home_dir / "log"
        argv = worker_argv("chat", self.settings)
        argv[argv.index("worker.app")] = "tests.support.workers.process_tree"
        with self.log.open("wb") as output:
            self.process = spawn(argv, child_env(self.settings), output)

    def wait_for_tree(self, state: str | None = None) -> list[int]:
        """Return the tree's pids, once it is complete and the worker, if that is given, in that state."""
        registry, pid_file = Registry(RedisStore(self.settings)), self.settings.home_dir / "pids"
        eventually(lambda: len(tree_pids(pid_file)) == SIZE, "a process tree")
        if state:
            eventually(lambda: [card.state for card in registry.workers()] == [state], state)
        return tree_pids(pid_file)

    def wait(self) -> int:
        """Wait until the worker has ended, and return its exit code."""
        return self.process.wait(TIMEOUT_S)

    def assert_reaped(self, pids: list[int]) -> str:
        """Wait for the reaper's report. Check that the processes are gone, and return the report."""
        lines = eventually(
            lambda: [line for line in tail(self.log, 20).splitlines() if "left" in line], "a report"
        )
        assert all_gone(pids)
        assert all(f"{pid} (python" in lines[-1] for pid in pids)
        return lines[-1]


@pytest.fixture
def worker(settings: Settings, request: pytest.FixtureRequest) -> Iterator[TreeWorker]:
    """A worker with the model that the test's parameter names (see `tests.support.workers.process_tree`)."""
    worker = TreeWorker(settings, request.param)
    yield worker
    worker.process.kill()
    worker.process.wait()


@pytest.fixture
def stranger() -> "Iterator[subprocess.Popen[bytes]]":
    """A process with the mark of another worker. The reaper must not end it."""
    command = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    with subprocess.Popen(command, env={**os.environ, "STOKER_MARK": "of another"}) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("worker", ["hangs"], indirect=True)
def test_reaper_ends_processes_of_killed_worker(
    worker: TreeWorker, settings: Settings, stranger: "subprocess.Popen[bytes]"
) -> None:
    pids = worker.wait_for_tree("warming")
    assert not all_gone(pids[:1])
    shared = Path("/dev/shm", (settings.home_dir / "pids.shm").read_text())
    assert shared.exists()
    worker.process.kill()
    assert worker.wait() == -signal.SIGKILL
    assert f"stoker: worker {worker.process.pid} left " in worker.assert_reaped(pids)
    assert not shared.exists()  # because the reaper let its resource tracker do its work
    assert stranger.poll() is None


@pytest.mark.parametrize("worker", ["loads"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_reaper_ends_processes_of_worker_that_gets_signal_while_loading(
    worker: TreeWorker, number: signal.Signals
) -> None:
    """A worker needs its own handler: the first process of a container ignores signals without one."""
    pids = worker.wait_for_tree("warming")
    worker.process.send_signal(number)
    assert worker.wait() == 0
    worker.assert_reaped(pids)


@pytest.mark.parametrize("worker", ["fails"], indirect=True)
def test_reaper_ends_processes_of_worker_that_fails_to_start(worker: TreeWorker) -> None:
    pids = worker.wait_for_tree()
    assert worker.wait() == 1  # although Python waits at exit for the children of multiprocessing
    worker.assert_reaped(pids)
    assert "stoker: the model does not load" in tail(worker.log, 20)


@pytest.mark.parametrize("worker", ["serves"], indirect=True)
def test_reaper_ends_processes_of_drained_worker(worker: TreeWorker) -> None:
    pids = worker.wait_for_tree("ready")
    worker.process.terminate()
    assert worker.wait() == 0
    worker.assert_reaped(pids)


def test_reaper_kills_worker_that_does_not_end() -> None:
    """A driver's exit handler may wait for its device. A resource tracker lives as long as its worker."""
    code = "import signal; from multiprocessing.resource_tracker import ensure_running as track\n"
    code += "from worker.jobs.settings import set_env; from worker.process.reaper import Reaper\n"
    code += "reaper = Reaper(worker_exit_s=0.1); set_env(**reaper.environment); track()\n"
    code += "reaper.release(); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(TIMEOUT_S) == -signal.SIGKILL
            assert b"is killed: it did not end" in process.communicate()[1]
        finally:
            process.kill()


def test_leftovers_signal_without_pidfd_open(
    stranger: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")  # as in a Python built for an old kernel, such as conda's
    Leftovers("of another", os.getpid()).send_signal(stranger.pid, signal.SIGTERM)
    assert stranger.wait(TIMEOUT_S) == -signal.SIGTERM


def test_leftovers_skip_process_that_may_not_be_signaled(
    stranger: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    Leftovers("of another", os.getpid()).send_signal(stranger.pid, signal.SIGTERM)
    assert stranger.poll() is None
