"""Whatever ends a worker, nothing that it started is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.family import SIZE, gone, members
from tests.support.stack import eventually
from tests.support.webstack import TIMEOUT_S
from webapi.local.commands import worker_argv
from webapi.local.supervisor import spawn, tail
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings, child_env
from worker.process.reaper import Leftovers


class Parent:
    """A worker with a family; it takes its fate from its model's name."""

    def __init__(self, settings: Settings, fate: str) -> None:
        self.settings = settings.replace(worker="chat", devices="cpu", chat_model=fate, drain_s=1)
        self.log = settings.home_dir / "log"
        argv = worker_argv("chat", self.settings)
        argv[argv.index("worker.app")] = "tests.support.workers.family"
        with self.log.open("wb") as output:
            self.process = spawn(argv, child_env(self.settings), output)

    def family(self, state: str) -> list[int]:
        """Who they are, once they are complete and the worker is in that state."""
        registry, book = Registry(Ledger(self.settings)), self.settings.home_dir / "book"
        eventually(lambda: len(members(book)) == SIZE, "a family", TIMEOUT_S)
        if state:
            eventually(lambda: [card.state for card in registry.workers()] == [state], state, TIMEOUT_S)
        return members(book)

    def code(self) -> int:
        """What it ended with."""
        return self.process.wait(TIMEOUT_S)

    def buried(self, family: list[int]) -> str:
        """What the warden said when they were gone."""
        said = eventually(
            lambda: [line for line in tail(self.log, 20).splitlines() if "left" in line], "word"
        )
        assert gone(family)
        assert all(f"{pid} (python" in said[-1] for pid in family)
        return said[-1]


@pytest.fixture
def parent(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Parent]:
    parent = Parent(settings, request.param)
    yield parent
    parent.process.kill()
    parent.process.wait()


@pytest.fixture
def stranger() -> "Iterator[subprocess.Popen[bytes]]":
    """Another worker's, that must be let be."""
    command = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    with subprocess.Popen(command, env={**os.environ, "STOKER_MARK": "of another"}) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("parent", ["hangs"], indirect=True)
def test_killed_while_it_loads(
    parent: Parent, settings: Settings, stranger: "subprocess.Popen[bytes]"
) -> None:
    family = parent.family("warming")
    assert not gone(family[:1])
    shared = Path("/dev/shm", (settings.home_dir / "book.shm").read_text())
    assert shared.exists()
    parent.process.kill()
    assert parent.code() == -signal.SIGKILL
    assert f"stoker: worker {parent.process.pid} left " in parent.buried(family)
    assert not shared.exists()  # for its resource tracker was let be
    assert stranger.poll() is None


@pytest.mark.parametrize("parent", ["loads"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_told_to_end_while_it_loads(parent: Parent, number: signal.Signals) -> None:
    """As the first process of a container it would not even hear of what it has no handler for."""
    family = parent.family("warming")
    parent.process.send_signal(number)
    assert parent.code() == 0
    parent.buried(family)


@pytest.mark.parametrize("parent", ["fails"], indirect=True)
def test_it_fails_to_start(parent: Parent) -> None:
    family = parent.family("")
    assert parent.code() == 1  # although Python waits at exit for what multiprocessing has started
    parent.buried(family)
    assert "stoker: the model does not load" in tail(parent.log, 20)


@pytest.mark.parametrize("parent", ["serves"], indirect=True)
def test_it_is_drained(parent: Parent) -> None:
    family = parent.family("ready")
    parent.process.terminate()
    assert parent.code() == 0
    parent.buried(family)


def test_a_worker_that_does_not_end_by_itself_is_killed() -> None:
    """As by a driver's exit handler that waits for a device; a resource tracker lives as long as it does."""
    code = "import signal; from multiprocessing.resource_tracker import ensure_running as track\n"
    code += "from worker.jobs.settings import set_env; from worker.process.reaper import Reaper\n"
    code += (
        "warden = Reaper(end_s=0.1); set_env(**warden.environment); track(); warden.release(); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(TIMEOUT_S) == -signal.SIGKILL
            assert b"is killed: it did not end" in process.communicate()[1]
        finally:
            process.kill()


def test_a_python_without_pidfds_does(
    stranger: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")  # one that was built for an old kernel, such as conda's
    Leftovers("of another", os.getpid()).send(stranger.pid, signal.SIGTERM)
    assert stranger.wait(TIMEOUT_S) == -signal.SIGTERM


def test_one_that_may_not_be_ended_saves_no_others(
    stranger: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    Leftovers("of another", os.getpid()).send(stranger.pid, signal.SIGTERM)
    assert stranger.poll() is None
