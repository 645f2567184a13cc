"""Tests of commands on a real terminal, against the real API."""

from pathlib import Path

from tests.support.cli import stoker_argv, stoker_env
from tests.support.terminal import on_terminal
from tests.support.web.webstack import Web


def test_jobs_watch_shows_a_new_job_until_ctrl_c(web: Web, tmp_path: Path) -> None:
    env = stoker_env(tmp_path, STOKER_URL=str(web.http.base_url))
    with on_terminal(stoker_argv("jobs", "--watch"), env) as terminal:
        terminal.until("WORKER")
        job_id = web.submit()
        terminal.until(job_id)
        terminal.type("\x03")
        assert terminal.ends() == 0
