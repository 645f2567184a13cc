"""The dispatcher: each change of a queue is one trip, which also pushes the messages of the next jobs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.connection import AbstractConnection

from tests.support.ledger import QUEUE, card
from worker.jobs import broker
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.events import Canceled
from worker.jobs.ledger.appends import Append
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
Change = Callable[[Dispatcher], object]


@pytest.fixture
def dispatcher(ledger: Ledger) -> Dispatcher:
    """The dispatcher of a queue with one slot, for which the job `a` is dispatched. The job `b` waits."""
    Registry(ledger.store).renew(card("w1", slots=1))
    dispatcher = Dispatcher(ledger.store)
    for job_id in ("a", "b"):
        assert dispatcher.submit(job_id, QUEUE, CHAT) == job_id
    return dispatcher


def messages(dispatcher: Dispatcher) -> set[str]:
    store = dispatcher.ledger.store
    return broker.queued_messages(store.settings, store.client, QUEUE)


def lose_messages(dispatcher: Dispatcher) -> None:
    store = dispatcher.ledger.store
    store.client.delete(broker.messages_key(store.settings, QUEUE))


@contextmanager
def trips(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Yield the commands that the block sends to Redis, one item for each trip of this thread."""
    sent, here = list[bytes](), threading.get_ident()
    send = AbstractConnection.send_packed_command

    def note(connection: Any, command: Any, check_health: bool = True) -> None:
        if threading.get_ident() == here:  # the threads of apps that other tests have made go on
            sent.append(b"".join(command))
        send(connection, command, check_health)  # type: ignore[no-untyped-call]

    store.clock.now()  # the clock of Redis is read once in ten seconds
    for script in ("append", "cancel", "claim", "requeue", "send_again", "submit"):
        store.scripts.sha(script)
    with monkeypatch.context() as patch:
        patch.setattr(AbstractConnection, "send_packed_command", note)
        yield sent


def nothing(dispatcher: Dispatcher) -> None:
    pass


def add_worker(dispatcher: Dispatcher) -> None:
    Registry(dispatcher.ledger.store).renew(card("w2", slots=2))


def submit(dispatcher: Dispatcher) -> None:
    assert dispatcher.submit("c", QUEUE, CHAT) == "c"


def claim(dispatcher: Dispatcher) -> None:
    assert dispatcher.ledger.claim("a", "w1", "cpu", claim="name")


def end_elsewhere(dispatcher: Dispatcher) -> None:
    """End the job `a` as an older version of Stoker does, which dispatches the next job by another script."""
    store = dispatcher.ledger.store
    store.client.hset(store.channel("a") + ":record", "state", "canceled")
    store.client.zrem(store.key("queue", QUEUE, "called"), "a")


def claim_ended(dispatcher: Dispatcher) -> None:
    assert dispatcher.ledger.claim("a", "w1", "cpu") is None


def append_end(dispatcher: Dispatcher) -> None:
    assert dispatcher.append([Append("a", "name", 1, 3, time.time(), [Canceled()], {})]) == ["ended"]


def cancel(dispatcher: Dispatcher) -> None:
    assert dispatcher.cancel("a") == "canceled"


def ask_to_cancel(dispatcher: Dispatcher) -> None:
    claim(dispatcher)
    assert dispatcher.cancel("a") == "running"


def requeue(dispatcher: Dispatcher) -> None:
    dispatcher.ledger.requeue("a", "w1", "drain")


def send_again(dispatcher: Dispatcher) -> None:
    assert dispatcher.send_again("b")


@pytest.mark.parametrize(
    ("before", "change", "pushed"),
    [
        (nothing, submit, set()),
        (add_worker, submit, {"b", "c"}),
        (nothing, claim, set()),
        (end_elsewhere, claim_ended, {"b"}),
        (claim, append_end, {"b"}),
        (nothing, cancel, {"b"}),
        (claim, requeue, {"a"}),
        (ask_to_cancel, requeue, {"b"}),
        (nothing, send_again, {"b"}),
    ],
)
def test_change_pushes_the_next_messages_in_one_trip(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch, before: Change, change: Change, pushed: set[str]
) -> None:
    before(dispatcher)
    lose_messages(dispatcher)
    with trips(dispatcher.ledger.store, monkeypatch) as sent:
        change(dispatcher)
    assert [command.count(b"EVALSHA") for command in sent] == [1]
    assert messages(dispatcher) == pushed


def test_submit_pushes_messages_for_free_slots_only(dispatcher: Dispatcher) -> None:
    assert messages(dispatcher) == {"a"}


def test_cancel_of_a_job_without_a_message_pushes_none(dispatcher: Dispatcher) -> None:
    assert dispatcher.cancel("b") == "canceled"
    submit(dispatcher)
    assert messages(dispatcher) == {"a"}


def test_send_again_reports_missing_job(dispatcher: Dispatcher) -> None:
    assert not dispatcher.send_again("unknown")
    assert messages(dispatcher) == {"a"}
