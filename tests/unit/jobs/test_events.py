"""The vocabulary of events, and whether all events in the logs of a real Valkey belong to it."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

import pytest

from tests.support.event_examples import ENDS, EXAMPLES, STEPS
from tests.support.ledger import QUEUE, a_second_later, append_of, check_vocabulary, lapse, pass_deadline
from tests.support.newer_events import NewerToken, Remark
from worker.jobs.events import (
    EVENTS,
    TERMINAL,
    Event,
    LoggedEvent,
    Queued,
    Reason,
    Requeued,
    Started,
    Token,
    own_fields,
    parse_event,
)
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})


def test_vocabulary_has_a_class_for_each_type() -> None:
    assert {type(each) for each in EXAMPLES} == set(EVENTS.values())
    assert all(name == each.type for name, each in EVENTS.items())
    assert {"succeeded", "failed", "canceled"} == TERMINAL


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_parse_event_returns_what_was_serialised_without_resume(event: Event) -> None:
    data = json.loads(event.fields())
    absent = {each.name for each in fields(event) if getattr(event, each.name) is each.default is None}
    assert data.keys() | absent == own_fields(type(event)).keys()
    assert own_fields(type(event)).keys() == {each.name for each in fields(event)} - {"resume"}
    assert parse_event({"type": event.type, "n": 3, **data}) == type(event)(**data)


def test_parse_event_ignores_unknown_fields() -> None:
    newer = NewerToken("Hi", 0, 1)
    assert parse_event({"type": "token", **json.loads(newer.fields())}) == Token("Hi", 0, 1)
    assert parse_event({"type": "token", "text": "Hi", "index": 0, "count": 1, "resume": "x"}) == Token(
        "Hi", 0, 1
    )


def test_parse_event_returns_none_for_unknown_type_or_form() -> None:
    assert parse_event({"type": Remark.type, **json.loads(Remark().fields())}) is None
    assert parse_event({"type": "token", "text": "Hi"}) is None


def submit(ledger: Ledger, *job_ids: str) -> None:
    for job_id in job_ids:
        ledger.submit(job_id, QUEUE, CHAT)


def log(ledger: Ledger, job_id: str) -> Sequence[LoggedEvent]:
    events = ledger.events(job_id)
    for event in events:
        check_vocabulary(event)
    return events


def test_ledger_writes_queued_and_started_exactly(ledger: Ledger) -> None:
    submit(ledger, "a", "moved")
    ledger.claim("a", 'w"1\\', "NVIDIA \u2028 H100")
    a_second_later(ledger)
    Queues(ledger.store).broadcast_positions(QUEUE)
    assert [parse_event(event.data) for event in log(ledger, "a")] == [
        Queued(1),
        Started('w"1\\', "NVIDIA \u2028 H100"),
    ]
    assert [parse_event(event.data) for event in log(ledger, "moved")] == [Queued(2), Queued(1)]


@pytest.mark.parametrize("reason", get_args(Reason))
def test_ledger_writes_requeued_exactly(ledger: Ledger, reason: Reason) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    lapse(ledger, "w1")
    ledger.requeue("a", "w1", reason)
    assert parse_event(log(ledger, "a")[2].data) == Requeued(reason)


def test_workers_write_other_events_exactly(ledger: Ledger) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    ledger.append([append_of(ledger, "a", 3, STEPS, {})])
    logged = log(ledger, "a")[2:]
    assert [(event.type, event.resume) for event in logged] == [(step.type, step.resume) for step in STEPS]


@pytest.mark.parametrize("end", ENDS, ids=lambda event: event.type)
def test_workers_write_terminal_events_exactly(ledger: Ledger, end: Event) -> None:
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    ledger.append([append_of(ledger, "a", 3, [end], {})])
    assert log(ledger, "a")[-1].type == end.type


def test_ledger_writes_its_own_terminal_events_exactly(ledger: Ledger) -> None:
    submit(ledger, "canceled", "expired", "timeout", "stopped", "lost")
    ledger.cancel("canceled")
    for job_id in ("timeout", "stopped", "lost"):
        ledger.claim(job_id, "w1", "cpu", exclusive=True)
    ledger.cancel("stopped")
    ledger.requeue("stopped", "w1", "drain")
    for _ in range(ledger.store.settings.max_attempts):
        ledger.requeue("lost", "w1", "engine_lost")
        ledger.claim("lost", "w1", "cpu", exclusive=True)
    for job_id in ("expired", "timeout"):
        pass_deadline(ledger, job_id)
    ledger.end_overdue()
    ends = {
        job_id: log(ledger, job_id)[-1].data
        for job_id in ("canceled", "expired", "timeout", "stopped", "lost")
    }
    assert {job_id: end.get("code", end["type"]) for job_id, end in ends.items()} == {
        "canceled": "canceled",
        "expired": "expired",
        "timeout": "timeout",
        "stopped": "canceled",
        "lost": "worker_lost",
    }
