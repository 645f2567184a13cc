"""Tests of the supervisor and of `stoker up`, with small real processes in place of the workers."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from redis import Redis

from tests.support.cli import ASCII, PROXIES, stoker_env
from tests.support.clocks import StillClock
from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S
from webapi.cli.main import main
from webapi.local.log_files import KEPT, rotate, tail
from webapi.local.supervisor import LONG_LIFE_S, Child, ChildFailed, Supervisor, spawn
from worker.jobs.settings import Settings, child_env

ENV = child_env(Settings.from_env())


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def supervisor(clock: StillClock) -> Iterator[Supervisor]:
    supervisor = Supervisor(2**20, clock)
    yield supervisor
    supervisor.stop_children([child.name for child in supervisor.children], 0.0)


def child(tmp_path: Path, code: str, name: str = "c") -> Child:
    return Child(name, [sys.executable, "-c", code], ENV, tmp_path / f"{name}.log")


def started(child: Child, count: int = 1) -> "subprocess.Popen[bytes]":
    """Wait until the log has `count` lines with `up`, one for each start. Return the child's process."""
    eventually(lambda: child.log.exists() and child.log.read_text().count("up") == count, "a child")
    assert child.process is not None
    return child.process


SLEEP = "print('up', flush=True); import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
POLITE = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit()));"
    "print('up', flush=True); signal.pause()"
)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_supervisor_restarts_dead_child_with_backoff(
    supervisor: Supervisor, clock: StillClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dying = child(tmp_path, "print('up: out of luck', flush=True); raise SystemExit(3)")
    dying.proved = True
    supervisor.start_child(dying)
    for attempt, wait_s in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0), 1):
        started(dying, attempt).wait(TIMEOUT_S)
        supervisor.tick()
        assert f"c ended (3), restart in {wait_s:.0f} s: up: out of luck" in capsys.readouterr().out
        clock.now += wait_s - 0.1
        supervisor.tick()
        assert dying.process is None
        clock.now += 0.2
        supervisor.tick()
        assert dying.process is not None


def fail(supervisor: Supervisor, clock: StillClock, dying: Child, attempt: int) -> None:
    """Wait until the child has ended this often, and let the supervisor see it and start the child again."""
    started(dying, attempt).wait(TIMEOUT_S)
    supervisor.tick()
    clock.now += LONG_LIFE_S / 2
    supervisor.tick()


def test_supervisor_gives_up_a_child_that_fails_three_times_in_the_same_way(
    supervisor: Supervisor, clock: StillClock, tmp_path: Path
) -> None:
    dying = child(
        tmp_path, "import os; print('up', os.getpid(), 'no template', flush=True); raise SystemExit(3)"
    )
    supervisor.start_child(dying)
    for attempt in (1, 2):
        fail(supervisor, clock, dying, attempt)
    started(dying, 3).wait(TIMEOUT_S)
    why = r"^c does not start: it has ended 3 times \(3\) with: up [0-9]+ no template \(see .*/c\.log\)$"
    with pytest.raises(ChildFailed, match=why):
        supervisor.tick()


def test_supervisor_goes_on_with_a_child_that_fails_in_different_ways(
    supervisor: Supervisor, clock: StillClock, tmp_path: Path
) -> None:
    log = str(tmp_path / "c.log")
    code = f"import sys; print('up', 'x' * len(open({log!r}).read()), flush=True); sys.exit(3)"
    dying = child(tmp_path, code)
    supervisor.start_child(dying)
    for attempt in range(1, 5):
        fail(supervisor, clock, dying, attempt)
    assert dying.process is not None


def test_supervisor_resets_backoff_after_long_life(
    supervisor: Supervisor, clock: StillClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sleeper = child(tmp_path, SLEEP)
    sleeper.backoff_s = 16.0
    supervisor.start_child(sleeper)
    clock.now += LONG_LIFE_S
    process = started(sleeper)
    process.kill()
    process.wait(TIMEOUT_S)
    supervisor.tick()
    assert "c ended (-9), restart in 1 s" in capsys.readouterr().out


#: It writes ten lines, by Python's logging and past it, and waits until its log has been rotated. And so on.
WRITES = """
import logging, os, select
from worker.jobs.logs.setup import take_process
from worker.jobs.settings import Settings
take_process(Settings.from_env())
for number in range(30):
    logging.info("%d", number)
    os.write(1, b"raw %d\\n" % number)
    if number % 10 == 9:
        while os.path.exists(os.environ["STOKER_LOG_FILE"]):
            select.select([], [], [], 0.01)
logging.info("end")
select.select([], [], [])
"""


def test_supervisor_rotates_logs_without_losing_a_line(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, found = tmp_path / "c.log", ""
    writer = Child("c", [sys.executable, "-c", WRITES], ENV | {"STOKER_LOG_FILE": str(log)}, log)
    ten = [f"2026-01-31T12:00:00.000Z INFO root: {number}\nraw {number}\n" for number in range(10)]
    supervisor.max_log_bytes = len("".join(ten))
    supervisor.start_child(writer)

    def ended() -> bool:
        nonlocal found
        supervisor.tick()
        writer.print_new_lines()
        found += capsys.readouterr().out
        return "root: end" in found

    eventually(ended, "all lines")
    lines = [re.sub(r"^c \| (\S+Z INFO root: )?", "", line) for line in found.splitlines()]
    assert lines == [f"{raw}{number}" for number in range(30) for raw in ("", "raw ")] + ["end"]
    assert tail(log, 2).splitlines()[0] == "raw 29"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.log", "c.log.1", "c.log.2", "c.log.3"]


def test_rotation_removes_the_oldest_file(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    for number in range(KEPT + 3):
        log.write_text(f"{number}\n")
        rotate(log, 3)
        assert log.exists(), "it has less than three bytes"
        rotate(log, 2)
    rotate(log, 1)
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == {"c.log.1": "5\n", "c.log.2": "4\n", "c.log.3": "3\n"}
    assert tail(log, 1) == "5"


def test_stop_children_lets_child_finish(supervisor: Supervisor, tmp_path: Path) -> None:
    polite = child(tmp_path, POLITE)
    supervisor.start_child(polite)
    process = started(polite)
    supervisor.stop_children(["c"], TIMEOUT_S)
    assert (process.returncode, tail(polite.log, 1), supervisor.children) == (0, "bye", [])


def test_stop_children_kills_after_wait_and_spares_others(supervisor: Supervisor, tmp_path: Path) -> None:
    stubborn, other = child(tmp_path, STUBBORN), child(tmp_path, SLEEP, "other")
    supervisor.start_child(stubborn)
    supervisor.start_child(other)
    process = started(stubborn)
    supervisor.stop_children(["c"], 0.0)
    assert process.returncode == -signal.SIGKILL
    assert started(other).poll() is None


#: At the first SIGTERM it drains without end, and sends SIGINT to its parent. At the second it ends at once.
DRAINS = (
    "import os, signal, sys\n"
    "def end(*_):\n"
    "    print('draining', flush=True)\n"
    "    signal.signal(signal.SIGTERM, lambda *_: (print('handed back'), sys.exit()))\n"
    "    os.kill(os.getppid(), signal.SIGINT)\n"
    "    signal.pause()\n"
    "signal.signal(signal.SIGTERM, end)\n" + SLEEP
)


def test_stop_children_second_ctrl_c_sends_second_sigterm(supervisor: Supervisor, tmp_path: Path) -> None:
    draining = child(tmp_path, DRAINS)
    supervisor.start_child(draining)
    process = started(draining)
    supervisor.stop_children(["c"], TIMEOUT_S)  # meanwhile the child sends SIGINT, as Ctrl-C would
    assert (process.returncode, tail(draining.log, 1)) == (0, "handed back")


def test_supervisor_ends_processes_of_dead_child(supervisor: Supervisor, tmp_path: Path) -> None:
    pause = "import signal; signal.pause()"
    engine = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {pause!r}]).pid); "
    dying = child(tmp_path, engine + SLEEP)
    supervisor.start_child(dying)
    process = started(dying)
    pid = int(dying.log.read_text().split()[0])
    assert alive(pid)
    process.kill()
    process.wait(TIMEOUT_S)
    supervisor.tick()
    eventually(lambda: not alive(pid), "the end of its child")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_spawn_child_ends_with_parent() -> None:
    code = (
        "import os, signal, sys; from webapi.local.supervisor import spawn;"
        "print(spawn([sys.executable, '-c', 'import signal; signal.pause()'], os.environ, None).pid);"
        "sys.stdout.flush(); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    eventually(lambda: not alive(pid), "the child's end")


#: `stoker up` with real Valkey and gunicorn. Its workers only publish that they are ready.
UP = """
import sys
from webapi.local import commands, stack
from webapi.cli.main import main
WORKER = '''
import os, signal, sys
from worker.jobs.cards import WorkerCard
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
settings = Settings.from_env()
kind, name = settings.worker, f"{settings.worker}-{os.getpid()}"
card = WorkerCard(name, kind, "h", os.getpid(), settings.devices, "m", "e", f"{kind}.m", 1, 0, state="ready")
registry = Registry(RedisStore(settings))
signal.signal(signal.SIGTERM, lambda *_: (registry.release(name), print("drained"), sys.exit()))
signal.signal(signal.SIGALRM, lambda *_: registry.renew(card))
signal.setitimer(signal.ITIMER_REAL, 0.01, settings.lease_ttl_s / 3)
while True:
    signal.pause()
'''
stack.worker_argv = commands.worker_argv = lambda kind, settings: [sys.executable, "-c", WORKER]
stack.models_argv = lambda *models: ["echo", "the models are there"]
main(sys.argv[1:])
"""


def worker_pids(url: str) -> list[int]:
    return [card["pid"] for card in httpx.get(f"{url}/v1/workers").json()["workers"]]


def test_up_starts_restarts_refuses_second_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    monkeypatch.setenv("STOKER_DEVICES", "0")  # two workers cannot both have this GPU
    monkeypatch.delenv("STOKER_REDIS_URL", raising=False)
    tmp_path.chmod(0o755)
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = [sys.executable, "-c", UP, "up", "--port", "0"]
        stack = spawn(command, child_env(Settings.from_env()), file)
    try:
        eventually(lambda: stack.poll() is None and "ready: http" in output.read_text(), "the stack")
        state = json.loads((tmp_path / "up.json").read_text())
        assert state["pid"] == stack.pid
        workers = httpx.get(f"{state['url']}/v1/workers").json()["workers"]
        assert [(card["kind"], card["device"]) for card in workers] == [("chat", "0"), ("video", "cpu")]
        with Redis.from_url(state["redis_url"]) as valkey:
            assert valkey.config_get("port") == {"port": "0"}, "only the socket's owner can connect"
            assert int(valkey.info("memory")["maxmemory"]) > 0
        assert not tmp_path.stat().st_mode & 0o077
        assert {path for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077} <= {output}

        another = spawn([sys.executable, "-c", UP, "worker", "chat"], stoker_env(tmp_path), None)
        try:
            eventually(lambda: another.pid in worker_pids(state["url"]), "a second worker beside the stack")
        finally:
            another.terminate()
            another.wait(TIMEOUT_S)

        key = CliRunner().invoke(main, ["keys", "create", "ci"]).stdout.strip()
        assert httpx.get(f"{state['url']}/v1/workers").status_code == 401

        second = CliRunner().invoke(main, ["up"])
        assert second.exit_code == 1
        assert second.stderr == f"Error: a stack already runs in {tmp_path}: stop it, or set STOKER_HOME\n"
        monkeypatch.setenv("STOKER_HOME", str(tmp_path / "other"))
        taken = CliRunner().invoke(main, ["up", "--port", state["url"].rpartition(":")[2]])
        assert taken.exit_code == 1
        why = r"Error: cannot listen on 127\.0\.0\.1:[0-9]+: Address already in use"
        way_out = r"choose another address with --host and --port \(STOKER_HOST, STOKER_PORT\)"
        assert re.fullmatch(f"{why}: {way_out}\n", taken.stderr)

        os.kill(workers[0]["pid"], signal.SIGKILL)
        eventually(lambda: output.read_text().count("chat: m on 0") == 2, "another chat worker")
        cards = httpx.get(f"{state['url']}/v1/workers", headers={"Authorization": f"Bearer {key}"}).json()
        pids = [card["pid"] for card in cards["workers"]]
        stack.send_signal(signal.SIGINT)
        assert stack.wait(TIMEOUT_S) == 0
    finally:
        stack.kill()
        stack.wait()
    assert not [pid for pid in pids if alive(pid)]
    assert tail(tmp_path / "logs" / "video.log", 1) == "drained"
    assert "bye bye" in tail(tmp_path / "logs" / "valkey.log", 1)
    assert not (tmp_path / "up.json").exists()


@pytest.mark.long
def test_up_starts_only_workers_of_served_kinds_in_any_surroundings(tmp_path: Path) -> None:
    """A company's proxy, which cannot reach this machine, and a locale in which no file of Stoker is text."""
    own = {"STOKER_KINDS": "video", "STOKER_DEVICES": "0", "STOKER_LOG_FORMAT": "json"}
    env = stoker_env(tmp_path, **own, **PROXIES, **ASCII)
    output = tmp_path / "output"
    with output.open("wb") as file:
        stack = spawn([sys.executable, "-c", UP, "up", "--port", "0"], env, file)
    try:
        eventually(lambda: stack.poll() is None and "ready: http" in output.read_text(), "the stack")
        workers = httpx.get(f"{json.loads((tmp_path / 'up.json').read_text())['url']}/v1/workers").json()
        assert [(card["kind"], card["device"]) for card in workers["workers"]] == [("video", "0")]
        stack.send_signal(signal.SIGINT)
        assert stack.wait(TIMEOUT_S) == 0
    finally:
        stack.kill()
        stack.wait()
    assert tail(tmp_path / "logs" / "video.log", 1) == "drained"
    for log in (output, tmp_path / "logs" / "web.log", tmp_path / "logs" / "webhooks.log"):
        lines = list(map(json.loads, log.read_text().splitlines()))
        assert lines
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def up_once(home: Path, patch: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `stoker up` with this code before it, and return what it printed until it ended by itself."""
    code = UP.replace("main(sys", f"{patch}\nmain(sys")
    return subprocess.run(
        [sys.executable, "-c", code, "up", "--port", "0"],
        env=stoker_env(home, STOKER_KINDS="chat", **variables),
        capture_output=True,
        text=True,
        timeout=3 * TIMEOUT_S,
        check=False,
    )


@pytest.mark.long
def test_up_gives_up_with_the_reason_of_a_worker_that_cannot_start(tmp_path: Path) -> None:
    worker = "raise SystemExit('stoker: /m has no chat template: take the Instruct version')"
    patch = f"from webapi.local import supervisor; supervisor.BACKOFF_S = (0.1, 0.1)\nWORKER = {worker!r}"
    ended = up_once(tmp_path, patch)
    assert ended.returncode == 1
    how = "chat does not start: it has ended 3 times (1) with"
    why = "stoker: /m has no chat template: take the Instruct version"
    assert ended.stderr == f"Error: {how}: {why} (see {tmp_path}/logs/chat.log)\n"
    assert "bye bye" in tail(tmp_path / "logs" / "valkey.log", 1)
    assert not (tmp_path / "up.json").exists()


def test_up_asks_redis_before_it_fetches_models(tmp_path: Path) -> None:
    patch = "stack.preflight.REDIS_START_S = 0.1\nstack.models_argv = lambda: ['echo', 'fetching']"
    ended = up_once(tmp_path, patch, STOKER_REDIS_URL="redis://127.0.0.1:1/0")
    assert (ended.returncode, "fetching" in ended.stdout) == (1, False)
    assert ended.stderr == (
        "Error: Redis does not answer: connecting to 127.0.0.1:1: Connection refused: "
        "start it, or set STOKER_REDIS_URL (`stoker up` has its own)\n"
    )


def test_up_public_host_requires_key(settings: Settings) -> None:
    command = [sys.executable, "-c", UP, "up", "--host", "0.0.0.0", "--port", "0"]
    stack = subprocess.run(command, env=child_env(settings), capture_output=True, text=True, check=False)
    assert stack.returncode == 1
    assert stack.stderr.startswith(
        "Error: there is no API key, so the API would trust everyone who reaches 0.0"
    )
    assert stack.stderr.count("\n") == 1


def test_up_refuses_password_of_embedded_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    monkeypatch.setenv("STOKER_REDIS_PASSWORD", "secret")
    monkeypatch.delenv("STOKER_REDIS_URL", raising=False)
    refused = CliRunner().invoke(main, ["up"])
    assert refused.exit_code == 1
    assert "set STOKER_REDIS_URL too" in refused.stderr
