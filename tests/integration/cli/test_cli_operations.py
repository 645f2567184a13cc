"""Tests of `stoker jobs`, `retry`, `queue` and `worker drain` against the real API."""

import json

import pytest
from click.testing import CliRunner, Result

from tests.support.web.webstack import CHAT, Web
from webapi.cli.main import main

pytestmark = pytest.mark.usefixtures("stoker_url")


def stoker(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result


def test_jobs_lists_the_newest_first_by_state_and_kind(web: Web) -> None:
    first, second = web.submit(), web.submit()
    stoker("cancel", first)
    rows = [line.split()[0] for line in stoker("jobs").stdout.splitlines()]
    assert rows == ["JOB", second, first]
    assert [job["id"] for job in json.loads(stoker("jobs", "--json", "--state", "canceled").stdout)] == [
        first
    ]
    assert json.loads(stoker("jobs", "--json", "--kind", "video", "--limit", "5").stdout) == []


def test_retry_prints_the_new_job(web: Web) -> None:
    job_id = web.submit()
    stoker("cancel", job_id)
    new = stoker("retry", job_id).stdout.strip()
    assert web.job(new)["retry_of"] == job_id
    refused = CliRunner().invoke(main, ["retry", new])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "only a failed or canceled job can be repeated" in refused.stderr


def test_queue_and_drain_commands_reach_the_api(web: Web) -> None:
    card = web.ready_worker("chat")
    web.submit()
    assert stoker("queue", "pause", CHAT).stdout == f"{CHAT} is paused: 1 jobs wait, 0 run\n"
    rows = [line.split() for line in stoker("status").stdout.splitlines()]
    assert [CHAT, "1", "0", "2", "1000", "paused"] in rows
    assert stoker("queue", "resume", CHAT).stdout == f"{CHAT} is not paused\n"
    assert stoker("worker", "drain", "chat1").stdout == "chat1 drains after its next heartbeat\n"
    assert web.registry.renew(card).drain
