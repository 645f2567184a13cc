"""Tests that errors of the real command line are one sentence: the cause first, the way out second."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import run_stoker
from tests.support.docs import ROOT
from tests.support.web.webstack import TIMEOUT_S
from worker.jobs.logs.formats import message_of

HOME = "STOKER_HOME is the folder of Stoker's own files"


@pytest.mark.parametrize(
    ("command", "variables", "sentence"),
    [
        (
            ("status", "--url", "localhost:8000"),
            {},
            r"localhost:8000 is not the URL of an API: it must look like http://127\.0\.0\.1:8000",
        ),
        (
            ("keys", "list"),
            {"STOKER_REDIS_URL": "secret@localhost:6379"},
            r"STOKER_REDIS_URL: this is not the URL of a Redis, such as redis://host:6379/0 or unix:///.*",
        ),
        (
            ("keys", "list"),
            {"STOKER_REDIS_URL": "redis://:secret@localhost:638O/0"},
            r"STOKER_REDIS_URL: its port is not a number from 0 to 65535",
        ),
        (
            ("worker", "webhooks"),
            {"STOKER_HOME": "/proc/none", "STOKER_MEDIA_URL": "/secret"},
            r"STOKER_MEDIA_URL: this is not the URL of a store, such as s3://bucket/path",
        ),
        (
            ("status",),
            {"STOKER_API_KEY": "sk-secret-…"},
            r"STOKER_API_KEY: this is not an API key, which is the text that `stoker keys create` printed",
        ),
        (
            ("up", "--port", "0"),
            {"STOKER_HOME": "/proc/version"},
            rf"/proc/version/logs: Not a directory: a part of this path is a file, .* \({HOME}\)",
        ),
    ],
)
def test_error_is_one_sentence_with_a_way_out(
    tmp_path: Path, command: tuple[str, ...], variables: dict[str, str], sentence: str
) -> None:
    failed = run_stoker(tmp_path, *command, **variables)
    assert failed.returncode == 1
    assert re.fullmatch(f"Error: {sentence}\n", failed.stderr.decode())
    assert b"secret" not in failed.stderr


def test_web_names_the_way_out_of_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed = run_stoker(tmp_path, "web", "--port", taken.getsockname()[1])
    assert failed.returncode == 1
    assert re.fullmatch(
        r"Error: cannot listen on .*: Address already in use: choose .*\n", failed.stderr.decode()
    )


@pytest.mark.long
def test_worker_reports_an_unusable_model_without_a_traceback(tmp_path: Path, redis_url: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    variables = {"STOKER_REDIS_URL": redis_url, "STOKER_PREFIX": tmp_path.name}
    failed = run_stoker(tmp_path, "worker", "chat", "--devices", "cpu", "--model", model, **variables)
    *_, last = failed.stderr.decode().splitlines()
    assert failed.returncode == 1
    assert " CRITICAL worker.process.lifecycle: " in last
    assert message_of(last).startswith(f"stoker: {model} has no config.json: a chat model is")
    assert b"Traceback" not in failed.stderr


def test_make_refuses_an_old_python_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n', "utf-8")
    old.chmod(0o755)
    command = ["make", "--always-make", "demo", f"PYTHON={old}"]
    failed = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    sentence = (
        f"Stoker needs Python 3.11 or newer, and {old} is Python 3.9.2: install one, and name it as in "
    )
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[0] == f"{sentence}`make demo PYTHON=python3.11`"
