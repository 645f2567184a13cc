"""Celery's events of a worker, with a dispatcher of the test."""

from typing import Any

from tests.support.ledger import QUEUE
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.specs import ChatJob, validate
from worker.lane.task_events import TaskEvents
from worker.runs.outbox import Outbox
from worker.runs.run import Run


class Sent(list[str]):
    """A Celery app whose dispatcher notes the events. The first `failures` of them cannot be sent."""

    failures = 0

    @property
    def events(self) -> "Sent":
        return self

    def connection_for_write(self) -> None:
        """Connect to nothing."""

    def Dispatcher(self, *_: Any, **__: Any) -> "Sent":  # noqa: N802
        return self

    def send(self, kind: str, **fields: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("away")
        self.append(f"{kind} {fields.get('uuid', '')}".strip())


def run_of(ledger: Ledger, job_id: str) -> Run:
    """Submit a job and return its run."""
    ledger.submit(job_id, QUEUE, validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]}))
    record = ledger.claim(job_id, "w1", "cpu")
    assert record is not None
    return Run(record, Outbox(Dispatcher(ledger.store)))


def settle(events: TaskEvents) -> None:
    """Wait until the events so far are sent."""
    events._thread.call(lambda: None)


def test_task_events_are_sent_only_while_a_monitor_watches(ledger: Ledger) -> None:
    sent = Sent()
    events, first, second = TaskEvents(sent, "w1", ledger), run_of(ledger, "a"), run_of(ledger, "b")
    events.before_run(first)
    settle(events)
    assert sent == []
    events.watch()
    events.watch()
    events.before_run(second)
    ledger.requeue("a", "w1", "drain")
    events.after_run(first)
    events.stop()
    events.after_run(second)
    settle(events)
    started = ["task-received a", "task-started a"]
    assert sent == [
        "worker-online", *started, "worker-heartbeat", "worker-heartbeat",
        "task-received b", "task-started b", "task-retried a", "worker-offline",
    ]  # fmt: skip


def test_task_events_go_on_after_an_error(ledger: Ledger) -> None:
    sent = Sent()
    sent.failures = 1
    events = TaskEvents(sent, "w1", ledger)
    events.watch()
    settle(events)
    assert sent == ["worker-heartbeat"]
