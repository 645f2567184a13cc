"""A worker under Celery's remote control, and under signals, with a scripted engine."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.stack import eventually
from tests.support.webstack import TIMEOUT_S
from worker.jobs import broker
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings, child_env
from worker.jobs.specs import validate

QUEUE = "chat.scripted"
CELERY = [sys.executable, "-m", "celery", "-A", "tests.support.workers.unruly", "worker", "--pool", "solo"]
CELERY += ["--without-mingle", "--without-gossip"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.replace(worker="chat", devices="cpu", chat_model="scripted", lease_ttl_s=2, drain_s=0)


@contextmanager
def working(settings: Settings, *prefix: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A worker that is ready, started by Celery's own command line."""
    with (settings.home_dir / "log").open("ab") as log:
        process = subprocess.Popen([*prefix, *CELERY], env=child_env(settings), stdout=log, stderr=log)
    registry = Registry(Ledger(settings))
    try:
        eventually(lambda: [card.state for card in registry.workers()] == ["ready"], "ready", TIMEOUT_S)
        yield process
    finally:
        process.kill()
        process.wait()


def submit(ledger: Ledger, job_id: str, queue: str, **body: Any) -> None:
    message: dict[str, Any] = {"messages": [{"role": "user", "content": "long"}], "max_tokens": 2}
    ledger.submit(job_id, queue, validate("chat", message | body))
    broker.send_message("chat", job_id, queue)


def wait_for(ledger: Ledger, job_id: str, kind: str) -> None:
    events = ledger.events
    eventually(lambda: kind in [event.type for event in events(job_id)], f"{kind} of {job_id}", TIMEOUT_S)


def why_requeued(ledger: Ledger) -> list[str]:
    return [event.data["reason"] for event in ledger.events("a") if event.type == "requeued"]


def unacknowledged(ledger: Ledger) -> int:
    return ledger.redis.exists(f"{ledger.settings.prefix}:celery:unacked")


@pytest.fixture
def answers(brokered: Ledger) -> Any:
    """What a worker answers to a command of Celery's remote control."""

    def ask(command: str, **arguments: Any) -> Any:
        control: Any = broker.app.control  # whose annotations know of no replies
        [reply] = control.broadcast(command, arguments, reply=True, limit=1, timeout=TIMEOUT_S)
        [answer] = reply.values()
        return answer

    return ask


def test_a_worker_serves_its_models_queue_and_never_another(
    settings: Settings, brokered: Ledger, answers: Any
) -> None:
    with working(settings):
        submit(brokered, "other", "chat.other")
        assert "this worker has one model" in answers("add_consumer", queue="chat.other")["error"]
        answers("cancel_consumer", queue=QUEUE)
        submit(brokered, "a", QUEUE)
        assert "ok" in answers("add_consumer", queue=QUEUE)
        wait_for(brokered, "a", "succeeded")
        assert unacknowledged(brokered) == 0
        assert brokered.get("other").state == "queued"
        assert [queue["name"] for queue in answers("active_queues")] == [QUEUE]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_hangup_and_ctrl_c_drain_the_worker_and_nothing_starts_it_anew(
    settings: Settings, brokered: Ledger, number: signal.Signals
) -> None:
    with working(settings) as process:
        submit(brokered, "a", QUEUE, max_tokens=1000)
        wait_for(brokered, "a", "token")
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0
        assert [event.data["reason"] for event in brokered.events("a") if event.type == "requeued"] == [
            "drain"
        ]


def test_a_worker_that_was_told_to_ignore_hangups_does(settings: Settings, brokered: Ledger) -> None:
    with working(settings, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        submit(brokered, "a", QUEUE)
        wait_for(brokered, "a", "succeeded")
        assert process.poll() is None


def test_an_engine_that_breaks_while_its_worker_drains_keeps_no_job_waiting(
    settings: Settings, brokered: Ledger
) -> None:
    with working(settings.replace(drain_s=10 * TIMEOUT_S)) as process:
        frail = [{"role": "user", "content": "frail"}]
        submit(brokered, "a", QUEUE, messages=frail, max_tokens=1000)
        wait_for(brokered, "a", "token")
        process.terminate()
        assert process.wait(TIMEOUT_S) == 1
    assert why_requeued(brokered) == ["engine_lost"]
