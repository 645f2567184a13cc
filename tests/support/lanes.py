"""Helpers for tests of a lane with chats of a scripted engine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.chat.fake_engine import FakeEngine
from worker.chat.runner import ChatRunner
from worker.jobs import broker
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.specs import ChatJob, validate
from worker.lane.lane import Lane
from worker.runs.hooks import RunHooks
from worker.runs.outbox import Outbox

__all__ = ["WAIT_S", "event_types", "lane_of", "messages", "start", "submit", "wait_for"]

WAIT_S = 20.0


@contextmanager
def lane_of(ledger: Ledger, engine: FakeEngine, hooks: RunHooks | None = None) -> Iterator[Lane]:
    """Run a lane of the worker w1 with this engine."""
    dispatcher = Dispatcher(ledger.store)
    outbox = Outbox(dispatcher)
    runner = ChatRunner(engine, "fake", ledger, outbox)
    runner.start(lambda error: None)
    outbox.start()
    yield Lane(dispatcher, outbox, runner, "w1", "cpu", hooks)
    runner.stop()
    outbox.stop(WAIT_S)


def submit(ledger: Ledger, job_id: str, **options: int) -> None:
    """Submit a chat of 100,000 tokens."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100_000, **options}
    ledger.submit(job_id, "chat.fake", validate(ChatJob, body))


def start(lane: Lane, job_id: str) -> threading.Thread:
    """Run the job in a thread. Return the thread once the job has logged its first token."""
    submit(lane.dispatcher.ledger, job_id)
    thread = threading.Thread(target=lane.run_job, args=(job_id,))
    thread.start()
    wait_for(lane, job_id, "token")
    return thread


def wait_for(lane: Lane, job_id: str, kind: str) -> None:
    """Wait until the job has logged an event of this type."""
    listener = lane.dispatcher.ledger.store.client.pubsub()  # type: ignore[no-untyped-call]
    listener.subscribe(lane.dispatcher.ledger.store.channel(job_id))
    while kind not in event_types(lane, job_id):
        assert listener.get_message(timeout=WAIT_S), f"{job_id} had no {kind}"
    listener.close()


def messages(lane: Lane) -> set[str]:
    """Return the waiting jobs that have a message."""
    ledger = lane.dispatcher.ledger
    found = broker.queued_messages(ledger.store.settings, ledger.store.client, "chat.fake")
    return {job_id for job_id in found if ledger.get(job_id).state == "queued"}


def event_types(lane: Lane, job_id: str) -> list[str]:
    """Return the types of the job's events."""
    return [event.type for event in lane.dispatcher.ledger.events(job_id)]
