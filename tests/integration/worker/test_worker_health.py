"""`stoker worker health`, the health check of containers."""

import os

import pytest
from click.testing import CliRunner, Result

from tests.support.ledger import lapse
from webapi.cli.main import main
from worker.jobs.cards import WorkerCard, WorkerState
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings


@pytest.fixture(autouse=True)
def env(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)


def health() -> Result:
    return CliRunner().invoke(main, ["worker", "health"])


def publish_card(ledger: Ledger, host: str, state: WorkerState) -> None:
    card = WorkerCard("w1", "chat", host, 1, "cpu", "m", "e", "chat.m", 1, 0, state=state)
    Registry(ledger.store).renew(card)


@pytest.mark.parametrize("state", ["ready", "draining"])
def test_worker_health_succeeds_until_lease_ends(ledger: Ledger, state: WorkerState) -> None:
    publish_card(ledger, os.uname().nodename, state)
    assert (health().exit_code, health().stdout) == (0, f"w1 is {state}\n")
    lapse(ledger, "w1")
    assert health().exit_code == 1


def test_worker_health_fails_while_worker_warms_up(ledger: Ledger) -> None:
    publish_card(ledger, os.uname().nodename, "warming")
    assert (health().exit_code, health().stderr) == (1, "Error: no worker of this host is warm\n")


def test_worker_health_ignores_workers_of_other_hosts(ledger: Ledger) -> None:
    publish_card(ledger, "another", "ready")
    assert health().exit_code == 1
