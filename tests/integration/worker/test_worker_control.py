"""A worker with a scripted engine under Celery's remote control, and under signals."""

import signal
from typing import Any

import pytest

from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S
from tests.support.workers.process import QUEUE, scripted_settings, submit_scripted, working
from worker.jobs import broker
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return scripted_settings(settings)


def wait_for(ledger: Ledger, job_id: str, kind: str) -> None:
    """Wait until the job has logged an event of this type."""
    events = ledger.events
    eventually(lambda: kind in [event.type for event in events(job_id)], f"{kind} of {job_id}")


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
        eventually(lambda: control.ping(limit=1, timeout=1), "the worker answers a ping")
        [reply] = control.broadcast(command, arguments, reply=True, limit=1, timeout=TIMEOUT_S)
        [answer] = reply.values()
        return answer

    return send


def test_worker_consumes_only_queue_of_its_model(
    settings: Settings, brokered: Ledger, remote_control: Any
) -> None:
    with working(settings):
        submit_scripted(brokered, "other", "chat.other")
        assert "this worker has one model" in remote_control("add_consumer", queue="chat.other")["error"]
        remote_control("cancel_consumer", queue=QUEUE)
        submit_scripted(brokered, "a", QUEUE)
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
        submit_scripted(brokered, "a", QUEUE, max_tokens=1000)
        wait_for(brokered, "a", "token")
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0
        assert requeue_reasons(brokered) == ["drain"]


def test_worker_that_drains_leaves_messages_to_others(settings: Settings, brokered: Ledger) -> None:
    store = brokered.store
    with working(settings.replace(drain_s=10 * TIMEOUT_S, lease_ttl_s=15)) as process:
        submit_scripted(brokered, "a", QUEUE, max_tokens=1000)
        wait_for(brokered, "a", "token")
        submit_scripted(brokered, "b", QUEUE)
        wait_for(brokered, "b", "succeeded")
        process.terminate()
        eventually(lambda: Registry(store).workers()[0].state == "draining", "the drain")
        submit_scripted(brokered, "c", QUEUE)
        key = broker.messages_key(settings, QUEUE)
        eventually(lambda: store.client.llen(key) == 1, "a message that waits for another worker", 2)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0


def test_worker_under_nohup_ignores_sighup(settings: Settings, brokered: Ledger) -> None:
    with working(settings, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        submit_scripted(brokered, "a", QUEUE)
        wait_for(brokered, "a", "succeeded")
        assert process.poll() is None


def test_worker_hands_jobs_back_when_engine_breaks_during_drain(settings: Settings, brokered: Ledger) -> None:
    with working(settings.replace(drain_s=10 * TIMEOUT_S)) as process:
        submit_scripted(brokered, "a", QUEUE, content="frail", max_tokens=1000)
        wait_for(brokered, "a", "token")
        process.terminate()
        assert process.wait(TIMEOUT_S) == 1
    assert requeue_reasons(brokered) == ["engine_lost"]


def test_worker_drains_when_an_administrator_asks(settings: Settings, brokered: Ledger) -> None:
    with working(settings) as process:
        submit_scripted(brokered, "a", QUEUE, max_tokens=1000)
        wait_for(brokered, "a", "token")
        registry = Registry(brokered.store)
        registry.drain(registry.workers()[0].name)
        assert process.wait(TIMEOUT_S) == 0
        assert requeue_reasons(brokered) == ["drain"]
        assert registry.workers() == []
