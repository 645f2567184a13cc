"""The dispatcher: each change of a queue is followed by the messages of the jobs that are next."""

import threading
from collections.abc import Callable

import pytest
from kombu.exceptions import OperationalError

from tests.support.ledger import QUEUE, append_of, card
from worker.jobs import broker
from worker.jobs.dispatch import dispatcher as module
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.events import Canceled
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.logs.facts import facts_of
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
WAIT_S = 20.0


@pytest.fixture
def dispatcher(brokered: Ledger) -> Dispatcher:
    """The dispatcher of a queue with one slot, which the job `a` has. The job `b` waits."""
    Registry(brokered.store).renew(card("w1", slots=1))
    dispatcher = Dispatcher(brokered.store)
    for job_id in ("a", "b"):
        assert dispatcher.submit(job_id, QUEUE, CHAT) == job_id
    return dispatcher


def messages(dispatcher: Dispatcher) -> set[str]:
    dispatcher.flush(WAIT_S)
    store = dispatcher.ledger.store
    return broker.queued_messages(store.settings, store.client, QUEUE)


def test_submit_sends_messages_for_free_slots_only(dispatcher: Dispatcher) -> None:
    assert messages(dispatcher) == {"a"}


def end(dispatcher: Dispatcher) -> None:
    assert dispatcher.claim("a", "w1", "cpu")
    assert dispatcher.append([append_of(dispatcher.ledger, "a", 3, [Canceled()])]) == ["ended"]


def cancel(dispatcher: Dispatcher) -> None:
    assert dispatcher.cancel("a") == "canceled"


def claim_canceled(dispatcher: Dispatcher) -> None:
    dispatcher.ledger.cancel("a")
    assert dispatcher.claim("a", "w1", "cpu") is None


def requeue_canceled(dispatcher: Dispatcher) -> None:
    assert dispatcher.claim("a", "w1", "cpu")
    dispatcher.ledger.cancel("a")
    dispatcher.requeue("a", "w1", "drain")


@pytest.mark.parametrize("change", [end, cancel, claim_canceled, requeue_canceled])
def test_freed_slot_goes_to_next_job(dispatcher: Dispatcher, change: Callable[[Dispatcher], None]) -> None:
    change(dispatcher)
    assert messages(dispatcher) == {"a", "b"}


def test_requeued_job_gets_a_message(dispatcher: Dispatcher) -> None:
    assert dispatcher.claim("a", "w1", "cpu")
    dispatcher.ledger.store.client.delete(broker.messages_key(dispatcher.ledger.store.settings, QUEUE))
    dispatcher.requeue("a", "w1", "drain")
    assert messages(dispatcher) == {"a"}


def test_send_again_reports_missing_job(dispatcher: Dispatcher) -> None:
    assert dispatcher.send_again("b")
    assert not dispatcher.send_again("unknown")
    assert messages(dispatcher) == {"a", "b"}


def test_append_does_not_wait_for_broker(dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    broker_is_back, sent = threading.Event(), list[str]()

    def send(kind: str, job_id: str, queue: str) -> None:
        assert broker_is_back.wait(WAIT_S)
        sent.append(job_id)

    monkeypatch.setattr(module, "send_message", send)
    end(dispatcher)
    assert not sent
    broker_is_back.set()
    dispatcher.flush(WAIT_S)
    assert sent == ["b"]


def test_broker_error_is_only_logged(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def send(kind: str, job_id: str, queue: str) -> None:
        raise OperationalError("as the test wants it")

    monkeypatch.setattr(module, "send_message", send)
    end(dispatcher)
    dispatcher.flush(WAIT_S)
    [lost] = [record for record in caplog.records if "the message was not sent" in record.getMessage()]
    assert facts_of(lost) == {"job": "b"}
