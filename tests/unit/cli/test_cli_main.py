"""Tests of the programs that `stoker worker`, `web` and `models` execute, and of errors in settings."""

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from webapi.cli.main import main
from webapi.client import Client
from webapi.client.errors import ApiUnavailable
from webapi.local.commands import WORKER
from webapi.server.worker import Worker
from worker.jobs.errors import ConfigurationError
from worker.jobs.limits import ClipSize
from worker.jobs.settings import Settings

Exec = tuple[list[str], dict[str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> "Runner":
    for name in [name for name in os.environ if name.startswith("STOKER_")]:
        monkeypatch.delenv(name)
    return Runner(monkeypatch)


class Runner:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Exec] = []
        monkeypatch.setattr(os, "execve", lambda path, argv, env: self.seen.append((argv, env)))

    def __call__(self, command: str) -> Exec:
        result = CliRunner().invoke(main, command.split())
        assert result.exit_code == 0, result.output
        return self.seen.pop()


def test_worker_chat_executes_celery_with_solo_pool(run: Runner) -> None:
    argv, env = run("worker chat --devices cpu --model /models/My.gguf --slots 3 --engine transformers")
    assert argv[:7] == [sys.executable, "-m", "celery", "--quiet", "-A", "worker.app", "worker"]
    options = dict(pairwise(argv))
    assert (options["--pool"], options["--concurrency"], options["-Q"]) == ("solo", "1", "chat.My")
    settings = {"WORKER": "chat", "DEVICES": "cpu", "CHAT_MODEL": "/models/My.gguf", "SLOTS": "3"}
    assert {f"STOKER_{name}": value for name, value in settings.items()}.items() <= env.items()


def test_worker_node_name_is_new_at_each_start(run: Runner) -> None:
    names = {run("worker chat")[0][-3] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("chat-") and name.endswith("@%h") for name in names)


def test_worker_video_passes_settings(run: Runner) -> None:
    argv, env = run("worker video --batch-size 4")
    assert "video.selfie_segmentation" in argv
    assert (env["STOKER_WORKER"], env["STOKER_BATCH_SIZE"]) == ("video", "4")
    assert env["STOKER_COMPILE"] == "False"


def test_worker_video_flag_compile(run: Runner) -> None:
    _, env = run("worker video --compile")
    assert Settings.from_env(env).compile is True


def test_worker_of_a_kind_that_is_not_served_is_refused(run: Runner) -> None:
    result = CliRunner().invoke(main, ["worker", "video"], env={"STOKER_KINDS": "chat"})
    assert (result.exit_code, run.seen) == (1, [])
    assert result.stderr == (
        "Error: STOKER_WORKER: video is not among the kinds that are served here (STOKER_KINDS=chat)\n"
    )


def test_worker_webhooks_executes_celery_with_threads(run: Runner) -> None:
    argv, _ = run("worker webhooks")
    assert argv[:7] == [sys.executable, "-m", "celery", "--quiet", "-A", "webapi.webhooks.sender", "worker"]
    options = dict(pairwise(argv))
    assert (options["--pool"], options["-Q"]) == ("threads", "webhooks")
    assert options["-n"].startswith("webhooks-")


def test_web_executes_gunicorn_with_own_worker(run: Runner) -> None:
    argv, env = run("web --host ::1 --port 81")
    assert argv[:5] == [sys.executable, "-m", "gunicorn", "-k", WORKER]
    assert (argv[argv.index("-b") + 1], argv[-1]) == ("[::1]:81", "webapi.app:create_app()")
    assert env["STOKER_PORT"] == "81"
    assert f"{Worker.__module__}.{Worker.__name__}" == WORKER


@pytest.mark.parametrize("proxies", ["10.0.0.1/8", "proxy.example", "*"])
def test_settings_refuse_proxies_that_are_not_networks(proxies: str) -> None:
    with pytest.raises(ConfigurationError, match="STOKER_TRUSTED_PROXIES"):
        Settings.from_env({"STOKER_TRUSTED_PROXIES": proxies})
    networks = Settings.from_env({"STOKER_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}).trusted_proxies
    assert list(map(str, networks)) == ["10.0.0.0/8", "::1/128"]


def test_models_executes_worker_assets(run: Runner) -> None:
    assert run("models --check bikes.mp4")[0][1:] == ["-m", "worker.assets", "--check", "bikes.mp4"]


@pytest.mark.parametrize(
    "command", ["worker video --batch-size 0", "web --port 99999", "worker chat --slots 0"]
)
def test_invalid_setting_is_one_sentence(command: str) -> None:
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: STOKER_")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["up", "web"])
def test_media_store_without_library_is_one_sentence(command: str, tmp_path: Path) -> None:
    env = {"STOKER_HOME": str(tmp_path / "home"), "STOKER_MEDIA_URL": "nosuch://bucket"}
    result = CliRunner().invoke(main, [command], env=env)
    assert result.exit_code == 1
    assert result.stderr == "Error: STOKER_MEDIA_URL: Protocol not known: nosuch\n"
    assert not list(tmp_path.iterdir())


def test_settings_parse_video_sizes() -> None:
    sizes = Settings.from_env({"STOKER_VIDEO_SIZES": "1280x720, 64x48"}).video_sizes
    assert sizes == (ClipSize(width=1280, height=720), ClipSize(64, 48))
    for wrong in ("1280", "0x720", "1280x720;64x48", "-1x5", "1280x1000000"):
        with pytest.raises(
            ConfigurationError, match=r"STOKER_VIDEO_SIZES: .* is not a size such as 1280x720"
        ):
            Settings.from_env({"STOKER_VIDEO_SIZES": wrong})


def test_chat_without_an_api_any_more_names_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(client: Client, job_id: str) -> NoReturn:
        raise ApiUnavailable("the API is away")

    monkeypatch.setattr(Client, "submit_chat", lambda client, body, **options: {"id": "j1"})
    monkeypatch.setattr(Client, "follow", lose)
    result = CliRunner().invoke(main, ["chat", "Hi", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, result.stdout) == (1, "")
    way_out = "job j1 may go on: `stoker status` shows it, `stoker cancel j1` ends it"
    assert result.stderr == f"job j1\nError: the API is away; {way_out}\n"


def test_check_executes_the_check_of_models_with_all_arguments(run: Runner) -> None:
    argv, _ = run("check package.models:Model --set strength=1 --help")
    assert argv[1:] == ["-m", "worker.video.check", "package.models:Model", "--set", "strength=1", "--help"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_whose_variable_completes(
    monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    script = CliRunner().invoke(main, ["completion", shell])
    assert (script.exit_code, script.stderr) == (0, "")
    assert "_STOKER_COMPLETE" in script.stdout
    words = {"COMP_WORDS": "stoker sta", "COMP_CWORD": "sta" if shell == "fish" else "1"}
    completed = CliRunner().invoke(
        main, env={"_STOKER_COMPLETE": f"{shell}_complete", **words}, prog_name="stoker"
    )
    assert "status" in completed.output
    assert "cancel" not in completed.output
