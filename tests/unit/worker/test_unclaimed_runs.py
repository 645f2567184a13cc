"""Runs that begin while their claim is on its way: what leaves the worker, and when."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from celery.app.task import Context
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.chat.fake_engine import FakeEngine
from tests.support.lanes import WAIT_S, event_types, lane_of, submit, wait_for
from tests.support.ledger import append_of, lapse
from tests.support.stack import eventually
from worker.chat.engine import ChatRequest
from worker.jobs.errors import EngineFailed
from worker.jobs.events import Event, Token
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.pending_reply import PendingReply
from worker.jobs.records import Record
from worker.lane.celery_task import sent_record
from worker.lane.lane import Lane
from worker.lane.reconciler import Reconciler
from worker.runs.hooks import RunHook, RunHooks
from worker.runs.run import Run

#: How long Redis executes no writes, unless the test lets it sooner, in ms.
PAUSE_MS = 60_000


class Noted(RunHook):
    """A hook that notes its calls."""

    def __init__(self) -> None:
        self.calls = list[str]()

    def before_run(self, run: Run) -> None:
        self.calls.append("before")

    def after_event(self, run: Run, event: Event) -> None:
        self.calls.append(event.type)

    def after_run(self, run: Run) -> None:
        self.calls.append("after")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([" word"] * 100_000, slots=2, step_s=0.001)


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def lane(brokered: Ledger, engine: FakeEngine, noted: Noted) -> Iterator[Lane]:
    with lane_of(brokered, engine, RunHooks([noted])) as lane:
        yield lane


def sent(lane: Lane, job_id: str, **options: int) -> Record:
    """Submit a chat, and return its record as the message has it."""
    submit(lane.dispatcher.ledger, job_id, **options)
    return lane.dispatcher.ledger.get(job_id)


@contextmanager
def paused_writes(lane: Lane) -> Iterator[None]:
    """Let Redis execute no writes within the block."""
    client = lane.dispatcher.ledger.store.client
    client.client_pause(PAUSE_MS, all=False)
    try:
        yield
    finally:
        client.client_unpause()


@contextmanager
def begun(lane: Lane, engine: FakeEngine, record: Record) -> Iterator[list[str]]:
    """Run the chat in a thread. Within the block the engine has it, and its claim is on its way.

    Yield a list that has the outcome after the block.
    """
    outcome, before = list[str](), len(engine.submitted)
    thread = threading.Thread(target=lambda: outcome.append(lane.run_job(record.id, record)))
    with paused_writes(lane):
        thread.start()
        eventually(lambda: len(engine.submitted) > before, "a request to the engine", WAIT_S)
        yield outcome
    thread.join(WAIT_S)
    assert outcome


def fields_of(lane: Lane, job_id: str) -> dict[str, str]:
    """Return the job's record as Redis has it."""
    store = lane.dispatcher.ledger.store
    return dict(store.hashes([store.channel(job_id) + ":record"])[0])


def is_free(lane: Lane, engine: FakeEngine) -> bool:
    """Return whether nothing of any job is left in the lane and in the engine."""
    return lane.running == 0 and engine.stats().kv_cache_usage == 0


def test_nothing_of_a_chat_leaves_before_its_claim_holds(
    lane: Lane, engine: FakeEngine, noted: Noted
) -> None:
    with begun(lane, engine, sent(lane, "a", max_tokens=5)) as outcome:
        eventually(lambda: engine.stats().kv_cache_usage == 0, "the whole answer", WAIT_S)
        assert event_types(lane, "a") == ["queued"]
        assert (noted.calls, outcome) == ([], [])
    assert outcome == ["succeeded"]
    events = lane.dispatcher.ledger.events("a")
    assert [event.type for event in events] == ["queued", "started", "token", "succeeded"]
    assert [event.n for event in events] == [1, 2, 3, 4]
    assert noted.calls == ["before", "token", "succeeded", "after"]
    assert (lane.dispatcher.ledger.get("a").usage or {})["completion_tokens"] == 5
    assert is_free(lane, engine)


def test_claim_that_holds_at_once_makes_one_run(lane: Lane, engine: FakeEngine) -> None:
    assert lane.run_job("a", sent(lane, "a", max_tokens=5)) == "succeeded"
    assert len(engine.submitted) == 1
    assert event_types(lane, "a")[:3] == ["queued", "started", "token"]


def test_claim_is_made_even_if_the_chat_kills_its_worker_at_once(
    lane: Lane, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(request: ChatRequest) -> None:
        """Return when the claim has been made, without any step of this worker."""
        eventually(lambda: lane.dispatcher.ledger.get("a").state == "running", "the claim", WAIT_S)
        FakeEngine.submit(engine, request)

    monkeypatch.setattr(engine, "submit", submit)
    assert lane.run_job("a", sent(lane, "a", max_tokens=5)) == "succeeded"


def test_events_of_the_queue_after_the_message_shift_those_of_the_run(lane: Lane) -> None:
    record = sent(lane, "a", max_tokens=5)
    ledger = lane.dispatcher.ledger
    ledger.store.client.hset(ledger.store.channel("a") + ":record", "events", record.events + 3)
    assert lane.run_job("a", record) == "succeeded"
    _, *later = (event.n for event in ledger.events("a"))
    assert later == [*range(record.events + 4, record.events + 4 + len(later))]


@pytest.mark.parametrize("refusal", ["canceled", "claimed", "paused", "gone"])
def test_refused_claim_cancels_the_request(lane: Lane, engine: FakeEngine, refusal: str) -> None:
    ledger, record = lane.dispatcher.ledger, sent(lane, "a")
    if refusal == "canceled":
        ledger.cancel("a")
    elif refusal == "claimed":
        ledger.claim("a", "w2", "cpu")
    elif refusal == "paused":
        ledger.store.client.sadd(ledger.store.key("queues", "paused"), record.queue)
    else:
        ledger.store.client.delete(ledger.store.channel("a") + ":record")
    before = event_types(lane, "a")
    assert lane.run_job("a", record) == "not waiting"
    eventually(lambda: is_free(lane, engine), "an engine without requests", WAIT_S)
    assert event_types(lane, "a") == before
    ledger.store.client.delete(ledger.store.key("queues", "paused"))
    assert lane.run_job("b", sent(lane, "b", max_tokens=1)) == "succeeded"


def test_refused_claim_gives_all_slots_back(lane: Lane) -> None:
    taken, record = list[int](), sent(lane, "a", n=3)
    lane.take_slots = taken.append
    lane.dispatcher.ledger.cancel("a")
    assert lane.run_job("a", record) == "not waiting"
    assert taken == [2, -2]


def test_message_of_an_earlier_attempt_continues_behind_the_log(lane: Lane, engine: FakeEngine) -> None:
    ledger, record = lane.dispatcher.ledger, sent(lane, "a", max_tokens=3)
    ledger.claim("a", "w2", "cpu")
    ledger.append([append_of(ledger, "a", 3, [Token(" word", 0, 1, resume="0")])])
    ledger.requeue("a", "w2", "drain")
    assert lane.run_job("a", record) == "succeeded"
    assert [request.generated_ids for request in engine.submitted] == [(), (0,)]
    first, *later = (event.data for event in ledger.events("a") if event.type == "token")
    assert (first["attempt"], first["count"], later[0]["attempt"], later[0]["index"]) == (1, 1, 2, 1)
    assert sum(data["count"] for data in later) == 2
    assert is_free(lane, engine)


@pytest.mark.parametrize("stale", [True, False])
def test_last_attempt_runs_exclusively_whatever_the_message_says(lane: Lane, stale: bool) -> None:
    ledger, record = lane.dispatcher.ledger, sent(lane, "a", max_tokens=5)
    for worker in ("dead1", "dead2"):
        ledger.claim("a", worker, "cpu")
        lapse(ledger, worker)
        ledger.requeue("a", worker, "worker_lost")
    assert lane.run_job("a", record if stale else ledger.get("a")) == "succeeded"
    assert ledger.get("a").attempt == 3


def test_second_message_starts_nothing_while_the_claim_is_on_its_way(lane: Lane, engine: FakeEngine) -> None:
    record = sent(lane, "a", max_tokens=5)
    with begun(lane, engine, record) as outcome:
        assert lane.run_job("a", record) == "not waiting"
    assert outcome == ["succeeded"]
    assert len(engine.submitted) == 1


def test_reconciler_lets_a_run_wait_for_its_claim(lane: Lane, engine: FakeEngine) -> None:
    reconciler = Reconciler(lane)
    with begun(lane, engine, sent(lane, "a", max_tokens=5)) as outcome:
        for _ in range(3):
            reconciler.reconcile([])
    assert outcome == ["succeeded"]


def test_claim_with_a_lost_reply_is_repeated_under_its_name(
    lane: Lane, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(job_id: str, reply: PendingReply) -> None:
        reply.read()
        raise RedisConnectionError("lost")

    monkeypatch.setattr(lane.dispatcher.ledger, "read_claim", lose)
    assert lane.run_job("a", sent(lane, "a", max_tokens=5)) == "succeeded"
    assert len(engine.submitted) == 1
    assert event_types(lane, "a").count("started") == 1


def test_claim_is_made_although_redis_has_lost_its_scripts(lane: Lane, engine: FakeEngine) -> None:
    assert lane.run_job("a", sent(lane, "a", max_tokens=5)) == "succeeded"
    lane.dispatcher.ledger.store.client.script_flush()
    assert lane.run_job("b", sent(lane, "b", max_tokens=5)) == "succeeded"
    assert len(engine.submitted) == 2


def test_dropped_reply_is_not_taken_for_another_one(lane: Lane) -> None:
    ledger = lane.dispatcher.ledger
    submit(ledger, "a")
    reply = ledger.send_claim("a", "w1", "cpu", "name")
    reply.drop()
    reply.drop()
    assert all(ledger.store.client.ping() is True for _ in range(3))


def test_chat_begins_with_its_claim_if_the_claim_cannot_be_sent(
    lane: Lane, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        assert not engine.submitted
        raise RedisConnectionError("away")

    monkeypatch.setattr(lane.dispatcher.ledger, "send_claim", fail)
    assert lane.run_job("a", sent(lane, "a", max_tokens=5)) == "succeeded"
    assert len(engine.submitted) == 1


def test_lane_that_drains_while_redis_is_away_cancels_the_request(
    lane: Lane, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        lane.drain()
        raise RedisConnectionError("away")

    record = sent(lane, "a")
    monkeypatch.setattr(lane.dispatcher.ledger, "read_claim", fail)
    assert lane.run_job("a", record) == "not waiting"
    assert len(engine.submitted) == 1
    eventually(lambda: is_free(lane, engine), "an engine without requests", WAIT_S)


def test_draining_lane_runs_a_chat_whose_claim_is_on_its_way(lane: Lane, engine: FakeEngine) -> None:
    with begun(lane, engine, sent(lane, "a", max_tokens=5)) as outcome:
        lane.drain()
    assert outcome == ["succeeded"]


def test_draining_lane_begins_no_chat(lane: Lane, engine: FakeEngine) -> None:
    lane.drain()
    assert lane.run_job("a", sent(lane, "a")) == "not waiting"
    assert not engine.submitted


def test_handed_back_run_leaves_its_job_to_others_whose_claim_was_on_its_way(
    lane: Lane, engine: FakeEngine, noted: Noted
) -> None:
    ledger = lane.dispatcher.ledger
    hand_back = threading.Thread(target=lane.hand_back)
    with begun(lane, engine, sent(lane, "a")):
        hand_back.start()
        eventually(lambda: engine.stats().kv_cache_usage == 0, "a canceled request", WAIT_S)
    hand_back.join(WAIT_S)
    assert ledger.get("a").state == "queued"
    assert event_types(lane, "a") == ["queued", "started", "requeued"]
    assert noted.calls == ["before", "after"]
    assert is_free(lane, engine)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (EngineFailed("no"), "engine_failed"),
        (ValueError(), "internal_error"),
    ],
)
def test_job_that_fails_before_its_claim_is_known_fails_behind_its_start(
    lane: Lane, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(request: ChatRequest) -> None:
        raise error

    monkeypatch.setattr(engine, "submit", fail)
    assert lane.run_job("a", sent(lane, "a")) == "failed"
    assert event_types(lane, "a") == ["queued", "started", "failed"]
    assert (lane.dispatcher.ledger.get("a").error or {})["code"] == code


def test_chat_of_a_dead_engine_goes_back_to_its_queue(lane: Lane, engine: FakeEngine) -> None:
    record = sent(lane, "a")
    engine.stop()
    thread = threading.Thread(target=lane.run_job, args=("a", record))
    thread.start()
    wait_for(lane, "a", "started")
    lane.hand_back("engine_lost")
    thread.join(WAIT_S)
    assert event_types(lane, "a") == ["queued", "started", "requeued"]


def test_emitted_events_of_a_run_that_gets_no_claim_are_stale(lane: Lane) -> None:
    run = Run(sent(lane, "a"), lane.outbox, claimed=False)
    waiting = run.emit()
    run.abandon()
    assert (waiting.result(0), run.emit().result(0)) == ("stale", "stale")


@pytest.mark.parametrize("record", [None, "text", [1], {}, {"attempt": None}, {"created_at": "now"}])
def test_header_without_a_whole_record_is_ignored(lane: Lane, record: Any) -> None:
    sent(lane, "a")
    header = fields_of(lane, "a") | record if isinstance(record, dict) and record else record
    assert sent_record("a", Context({"record": header})) is None
    assert sent_record("a", Context({})) is None


def test_header_is_the_record_at_the_dispatch(lane: Lane) -> None:
    record = sent(lane, "a")
    header = fields_of(lane, "a")
    assert sent_record("a", Context({"record": header})) == replace(record, position=None)
