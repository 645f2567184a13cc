"""Tests of `stoker chat` while the API restarts, and of Ctrl-C, with the real command line."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.cli import run_stoker, stoker_argv, stoker_env
from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S, Web, serve
from webapi.cli.main import main
from webapi.client import Client
from webapi.local.commands import web_argv
from worker.jobs.events import Succeeded, Token
from worker.jobs.settings import child_env

DONE = Succeeded({"finish_reason": "stop"}, {})


@contextmanager
def chatting(web: Web, home: Path) -> "Iterator[tuple[subprocess.Popen[bytes], str]]":
    """Run a chat, and yield its process and the job's id when it has printed the id and the word `one`."""
    env = stoker_env(home, STOKER_URL=str(web.http.base_url))
    with subprocess.Popen(
        stoker_argv("chat", "Hi"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            job_id = eventually(web.ledger.page, "a job")[0].id
            web.worker.claim(job_id)
            web.worker.append(job_id, Token("one", 0, 1))
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stderr.readline() == f"job {job_id}\n".encode()
            assert process.stdout.read(3) == b"one"
            yield process, job_id
        finally:
            process.kill()


def said(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    """Wait for the end of the process. Return its exit code and the rest of its output."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out.decode(), err.decode()


def test_chat_ctrl_c_cancels_the_job_and_says_so(web: Web, tmp_path: Path) -> None:
    with chatting(web, tmp_path) as (process, job_id):
        process.send_signal(signal.SIGINT)
        code, _, errors = said(process)
    assert code == 1
    assert errors == f"\ncanceling job {job_id}; Ctrl-C again leaves it running\n\nAborted!\n"
    assert web.worker.append(job_id, Token(" two", 1, 1)) == "cancel"


def test_chat_second_ctrl_c_leaves_the_job_running(web: Web, tmp_path: Path) -> None:
    with chatting(web, tmp_path) as (process, job_id):
        os.killpg(web.process.pid, signal.SIGSTOP)  # the API does not answer the first one's cancel
        try:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert [process.stderr.readline() for _ in range(2)][1].startswith(b"canceling job")
            process.send_signal(signal.SIGINT)
            code, _, errors = said(process)
        finally:
            os.killpg(web.process.pid, signal.SIGCONT)
    assert (code, errors) == (1, "\nAborted!\n")
    assert web.job(job_id)["state"] == "running"
    canceled = run_stoker(tmp_path, "cancel", job_id, STOKER_URL=str(web.http.base_url))
    assert canceled.stdout == f"job {job_id} is being canceled\n".encode()


@pytest.mark.long
def test_chat_goes_on_with_an_api_that_was_restarted(redis_url: str, tmp_path: Path) -> None:
    with serve(redis_url, tmp_path) as web, chatting(web, tmp_path) as (process, job_id):
        os.killpg(web.process.pid, signal.SIGKILL)
        web.process.wait(TIMEOUT_S)
        web.worker.append(job_id, Token(" two", 1, 1), DONE)
        settings = web.settings.replace(port=web.http.base_url.port)
        second = subprocess.Popen(web_argv(settings), env=child_env(settings))
        try:
            code, answer, errors = said(process)
        finally:
            second.terminate()
            second.wait(TIMEOUT_S)
    assert (code, answer) == (0, " two\n")
    assert errors.startswith("2 tokens, ")


def test_chat_ctrl_c_before_the_answer_of_the_api_cancels_the_job(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, seen = Client.submit_chat, []

    def interrupted(*args: Any, **options: Any) -> Any:
        seen.append(submit(*args, **options)["id"])
        if len(seen) == 1:  # the answer is on its way
            raise KeyboardInterrupt
        return {"id": seen[-1]}

    monkeypatch.setattr(Client, "submit_chat", interrupted)
    chat = CliRunner().invoke(main, ["chat", "Hi", "--url", str(web.http.base_url)])
    assert chat.exit_code == 1
    assert seen[0] == seen[1]
    assert [record.state for record in web.ledger.page()] == ["canceled"]
