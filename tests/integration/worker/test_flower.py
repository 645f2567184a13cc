"""Flower beside a real worker: it shows the worker and its jobs as they are."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.job_ids import A, B
from tests.support.ledger import pass_deadline
from tests.support.stack import eventually, free_port
from tests.support.web.webstack import TIMEOUT_S
from tests.support.workers.process import scripted_settings, submit_scripted, working
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings, child_env

C = "c" * 32


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return scripted_settings(settings)


@pytest.fixture
def flower(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a Flower that needs no login."""
    port, env = free_port(), child_env(settings) | {"FLOWER_UNAUTHENTICATED_API": "true"}
    options = ["flower", "--address=127.0.0.1", f"--port={port}"]
    command = [sys.executable, "-m", "celery", "-A", "worker.jobs.broker", *options]
    with (
        subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S) as client,
    ):
        try:
            yield client
        finally:
            process.kill()


def get(flower: httpx.Client, path: str) -> Any:
    """Return the JSON at the path; None until Flower listens."""
    try:
        return flower.get(path).raise_for_status().json()
    except httpx.TransportError:
        return None


@pytest.mark.long
def test_flower_shows_worker_and_true_states(
    settings: Settings, brokered: Ledger, flower: httpx.Client
) -> None:
    def shown() -> list[dict[str, Any]]:
        return list((get(flower, "/workers?json=1") or {"data": []})["data"])

    def running() -> bool:
        return brokered.get(A).state == brokered.get(B).state == "running"

    with working(settings) as process:
        [worker] = eventually(shown, "a worker in Flower")
        [card] = Registry(brokered.store).workers()
        assert (worker["hostname"], worker["status"]) == (card.name, True)
        for job_id, content in ((A, "hang"), (B, "hang"), (C, "long")):
            submit_scripted(brokered, job_id, content=content)
        eventually(running, "two runs")
        brokered.cancel(A)
        pass_deadline(brokered, B)
        wanted = {A: "REVOKED", B: "FAILURE", C: "SUCCESS"}

        def states() -> dict[str, str]:
            return {job_id: task["state"] for job_id, task in get(flower, "/api/tasks").items()}

        eventually(lambda: states() == wanted, f"the states {wanted}")
        tasks = get(flower, "/api/tasks")
        assert tasks[B]["exception"].startswith("timeout: ")
        assert {task["worker"] for task in tasks.values()} == {card.name}
        process.terminate()
        process.wait(TIMEOUT_S)
    eventually(lambda: [each["status"] for each in shown()] == [False], "a worker that is offline")
