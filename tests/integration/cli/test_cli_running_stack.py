"""Tests of the commands beside a running `stoker up`, which they find through its state file."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.cli import run_stoker
from webapi.cli.main import main
from webapi.local import preflight, state_file
from webapi.local.valkey import socket_in
from worker.jobs.errors import StokerError
from worker.jobs.settings import Settings

URL = "http://127.0.0.1:9"
REDIS = "unix:///home/me/.stoker/valkey/valkey.sock?db=0"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a stack of this process. The environment names only its home."""
    password = tmp_path / "password"
    password.write_text("secret", "utf-8")
    given = {"STOKER_HOME": str(tmp_path), "STOKER_REDIS_URL": REDIS, "STOKER_PREFIX": "mine"}
    given |= {"STOKER_REDIS_PASSWORD_FILE": str(password), "STOKER_KINDS": "chat"}
    settings = Settings.from_env(given)
    state_file.write(settings, URL)
    for name in [name for name in os.environ if name.startswith("STOKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    monkeypatch.setattr(preflight, "free_port", lambda host, port: port)
    return settings


def environment_of(monkeypatch: pytest.MonkeyPatch, *command: str) -> dict[str, str]:
    """Return the environment of the program that the command executes."""
    seen: list[dict[str, str]] = []
    monkeypatch.setattr("os.execve", lambda path, argv, env: seen.append(env))
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return seen.pop()


@pytest.mark.parametrize("command", [("worker", "chat"), ("worker", "webhooks"), ("web",)])
def test_programs_beside_a_running_stack_share_its_redis(
    stack: Settings, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    env = environment_of(monkeypatch, *command)
    used = Settings.from_env(env)
    assert (used.redis_url, used.prefix, used.kinds) == (REDIS, "mine", ("chat",))
    assert used.redis_password == "secret"
    assert "STOKER_REDIS_PASSWORD" not in env, "other programs can read it there"


def test_program_with_a_redis_of_its_own_does_not_belong_to_the_stack(
    stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://other:6379/0")
    used = Settings.from_env(environment_of(monkeypatch, "worker", "webhooks"))
    assert (used.redis_url, used.prefix) == ("redis://other:6379/0", "stoker")
    assert used.redis_password is None


def test_program_keeps_what_the_environment_gives(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_PREFIX", "own")
    monkeypatch.setenv("STOKER_REDIS_PASSWORD", "other")
    used = Settings.from_env(environment_of(monkeypatch, "worker", "webhooks"))
    assert (used.redis_url, used.prefix, used.redis_password) == (REDIS, "own", "other")


def test_worker_of_a_kind_that_the_stack_does_not_serve_is_refused(stack: Settings) -> None:
    refused = CliRunner().invoke(main, ["worker", "video"])
    assert (refused.exit_code, "STOKER_KINDS=chat" in refused.stderr) == (1, True)


def test_settings_command_shows_what_comes_from_the_stack(stack: Settings) -> None:
    shown = {
        each["variable"]: each for each in json.loads(CliRunner().invoke(main, ["settings", "--json"]).stdout)
    }
    found = {name: (each["value"], each["source"]) for name, each in shown.items()}
    assert found["STOKER_URL"] == (URL, "stack")
    assert found["STOKER_PREFIX"] == ("mine", "stack")
    assert found["STOKER_REDIS_URL"] == found["STOKER_REDIS_PASSWORD"] == ("***", "stack")
    assert found["STOKER_SLOTS"] == ("8", "default")
    assert found["STOKER_HOME"][1] == "environment"


def test_commands_follow_no_stack_that_was_killed(stack: Settings) -> None:
    path = stack.home_dir / "up.json"
    ended = subprocess.Popen(["true"])
    ended.wait()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": ended.pid}), "utf-8")
    shown = run_stoker(stack.home_dir, "status")
    assert shown.returncode == 1
    assert shown.stderr.startswith(b"Error: there is no API at http://127.0.0.1:8000 (")


def test_commands_read_the_state_file_of_an_older_stack(stack: Settings) -> None:
    state = {"pid": os.getpid(), "url": URL, "redis_url": REDIS}
    (stack.home_dir / "up.json").write_text(json.dumps(state), "utf-8")
    followed = state_file.follow(Settings(home=stack.home))
    assert (followed.url, followed.redis_url, followed.prefix) == (URL, REDIS, "stoker")


def test_socket_of_the_embedded_server_is_the_same_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert socket_in(tmp_path / "valkey") == tmp_path / "valkey" / "valkey.sock"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("webapi.local.valkey.MAX_SOCKET_PATH", 0)
    first, other = socket_in(tmp_path / "valkey"), socket_in(tmp_path / "other")
    assert (socket_in(tmp_path / "valkey"), first.parent.stat().st_mode & 0o777) == (first, 0o700)
    assert first != other
    first.parent.chmod(0o755)
    with pytest.raises(StokerError, match="is not a folder of this user only"):
        socket_in(tmp_path / "valkey")
