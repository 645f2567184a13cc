"""A worker with a scripted engine under Celery's remote control, and under signals."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S
from worker.jobs import broker
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
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
    """Start a worker by Celery's own command line, and wait until it is ready."""
    with (settings.home_dir / "log").open("ab") as log:
        process = subprocess.Popen([*prefix, *CELERY], env=child_env(settings), stdout=log, stderr=log)
    registry = Registry(RedisStore(settings))
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
    """Wait until the job has logged an event of this type."""
    events = ledger.events
    eventually(lambda: kind in [event.type for event in events(job_id)], f"{kind} of {job_id}", TIMEOUT_S)


def requeue_reasons(ledger: Ledger) -> list[str]:
    """Return the reasons of the requeues of job `a`."""
    return [event.data["reason"] for event in ledger.events("a") if event.type == "requeued"]


def unacknowledged(ledger: Ledger) -> int:
    """Return whether Celery holds messages that wait for an acknowledgement."""
    return ledger.store.client.exists(f"{ledger.store.settings.prefix}:celery:unacked")


@pytest.fixture
def remote_control(brokered: Ledger) -> Any:
    """A function that sends a command of Celery's remote control, and returns the worker's answer.

    A worker is ready before Celery subscribes it to the remote control, and Redis keeps no broadcast for
    later subscribers. So `send` first pings until the worker answers.
    """
    control: Any = broker.app.control  # its annotations lack the replies

    def send(command: str, **arguments: Any) -> Any:
        eventually(lambda: control.ping(limit=1, timeout=1), "the worker answers a ping", TIMEOUT_S)
        [reply] = control.broadcast(command, arguments, reply=True, limit=1, timeout=TIMEOUT_S)
        [answer] = reply.values()
        return answer

    return send


def test_worker_consumes_only_queue_of_its_model(
    settings: Settings, brokered: Ledger, remote_control: Any
) -> None:
    with working(settings):
        submit(brokered, "other", "chat.other")
        assert "this worker has one model" in remote_control("add_consumer", queue="chat.other")["error"]
        remote_control("cancel_consumer", queue=QUEUE)
        submit(brokered, "a", QUEUE)
        assert "ok" in remote_control("add_consumer", queue=QUEUE)
        wait_for(brokered, "a", "succeeded")
        assert unacknowledged(brokered) == 0
        assert brokered.get("other").state == "queued"
        assert [queue["name"] for queue in remote_control("active_queues")] == [QUEUE]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_worker_drains_on_sighup_and_sigint(
    settings: Settings, brokered: Ledger, number: signal.Signals
) -> None:
    with working(settings) as process:
        submit(brokered, "a", QUEUE, max_tokens=1000)
        wait_for(brokered, "a", "token")
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0
        assert requeue_reasons(brokered) == ["drain"]


def test_worker_under_nohup_ignores_sighup(settings: Settings, brokered: Ledger) -> None:
    with working(settings, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        submit(brokered, "a", QUEUE)
        wait_for(brokered, "a", "succeeded")
        assert process.poll() is None


def test_worker_hands_jobs_back_when_engine_breaks_during_drain(settings: Settings, brokered: Ledger) -> None:
    with working(settings.replace(drain_s=10 * TIMEOUT_S)) as process:
        frail = [{"role": "user", "content": "frail"}]
        submit(brokered, "a", QUEUE, messages=frail, max_tokens=1000)
        wait_for(brokered, "a", "token")
        process.terminate()
        assert process.wait(TIMEOUT_S) == 1
    assert requeue_reasons(brokered) == ["engine_lost"]
