"""The lane, its Celery pool, and the reconciler."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.support.chat.fake_engine import FakeEngine
from tests.support.lanes import WAIT_S, event_types, lane_of, messages, start, submit, wait_for
from tests.support.ledger import lapse
from tests.support.stack import eventually
from worker.chat.engine import ChatRequest
from worker.jobs import broker
from worker.jobs.cards import WorkerCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.lane.lane import Lane
from worker.lane.pool import LanePool
from worker.lane.reconciler import Reconciler


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([" word"] * 100_000, slots=2, step_s=0.001)


@pytest.fixture
def lane(brokered: Ledger, engine: FakeEngine) -> Iterator[Lane]:
    with lane_of(brokered, engine) as lane:
        yield lane


def test_lane_counts_running_jobs(lane: Lane) -> None:
    thread = start(lane, "a")
    assert lane.running == 1
    lane.dispatcher.ledger.cancel("a")
    thread.join(WAIT_S)
    assert lane.wait_idle(WAIT_S)
    assert lane.dispatcher.ledger.get("a").state == "canceled"


def test_lane_takes_a_slot_for_each_choice_while_the_job_runs(lane: Lane) -> None:
    taken = list[int]()
    lane.take_slots = taken.append
    for job_id, n in (("a", 3), ("b", 1)):
        submit(lane.dispatcher.ledger, job_id, n=n, max_tokens=1)
        assert lane.run_job(job_id) == "succeeded"
    assert taken == [2, -2]


def test_lane_ignores_second_message_of_running_job(lane: Lane) -> None:
    thread = start(lane, "a")
    assert lane.run_job("a") == "not waiting"
    lane.dispatcher.ledger.cancel("a")
    thread.join(WAIT_S)


def test_lane_hand_back_requeues_running_and_claims_no_more(lane: Lane) -> None:
    other = WorkerCard("w2", "chat", "host", 1, "cpu", "fake", "fake", "chat.fake", 4, 0, state="ready")
    Registry(lane.dispatcher.ledger.store).renew(other)
    thread = start(lane, "a")
    lane.hand_back()
    thread.join(WAIT_S)
    submit(lane.dispatcher.ledger, "late")
    assert lane.run_job("late") == "not waiting"
    assert event_types(lane, "late") == ["queued"]
    assert event_types(lane, "a")[-1] == "requeued"
    assert lane.dispatcher.ledger.events("a")[-1].data["reason"] == "drain"
    assert messages(lane) == {
        "a",
        "late",
    }


def test_lane_dispatches_next_job_when_slot_is_free(lane: Lane) -> None:
    mine = WorkerCard("w1", "chat", "host", 1, "cpu", "fake", "fake", "chat.fake", 1, 0, state="ready")
    Registry(lane.dispatcher.ledger.store).renew(mine)
    thread = start(lane, "a")
    submit(lane.dispatcher.ledger, "b")
    submit(lane.dispatcher.ledger, "c")
    assert messages(lane) == set()
    lane.dispatcher.ledger.cancel("a")
    thread.join(WAIT_S)
    assert messages(lane) == {"b"}


def test_lane_dispatches_next_job_when_claim_fails(lane: Lane) -> None:
    mine = WorkerCard("w1", "chat", "host", 1, "cpu", "fake", "fake", "chat.fake", 1, 0, state="ready")
    Registry(lane.dispatcher.ledger.store).renew(mine)
    submit(lane.dispatcher.ledger, "a")
    submit(lane.dispatcher.ledger, "b")
    lane.dispatcher.ledger.cancel("a")
    assert lane.run_job("a") == "not waiting"
    assert messages(lane) == {"b"}


def test_pool_formats_no_arguments_for_unread_log_lines() -> None:
    """Celery formats the arguments of each message for the debug log, unless a started pool has it off."""
    formatted, done = list[bool](), threading.Event()

    class Argument:
        def __repr__(self) -> str:
            formatted.append(True)
            return "…"

    LanePool(broker.app, 1).apply_async(id, (Argument(),), callback=lambda _: done.set())
    assert done.wait(WAIT_S)
    assert not formatted


def lose_twice(ledger: Ledger, job_id: str) -> None:
    """Submit the job, and let two workers die while they run it."""
    submit(ledger, job_id)
    for worker in ("dead1", "dead2"):
        ledger.claim(job_id, worker, "cpu")
        lapse(ledger, worker)
        ledger.requeue(job_id, worker, "worker_lost")


def test_lane_runs_last_attempt_exclusively(lane: Lane) -> None:
    first = start(lane, "innocent")
    lose_twice(lane.dispatcher.ledger, "suspect")
    suspect = threading.Thread(target=lane.run_job, args=("suspect",))
    suspect.start()
    while not lane.is_isolated("suspect"):
        assert suspect.is_alive()
    assert lane.run_job("suspect") == "not waiting"  # a second message
    submit(lane.dispatcher.ledger, "later")
    later = threading.Thread(target=lane.run_job, args=("later",))
    later.start()
    assert event_types(lane, "suspect")[-1] == "requeued"
    lane.dispatcher.ledger.cancel("innocent")
    first.join(WAIT_S)
    wait_for(lane, "suspect", "token")
    assert event_types(lane, "later") == ["queued"]
    lane.dispatcher.ledger.cancel("suspect")
    suspect.join(WAIT_S)
    wait_for(lane, "later", "token")
    lane.dispatcher.ledger.cancel("later")
    later.join(WAIT_S)
    assert {lane.dispatcher.ledger.get(i).state for i in ("innocent", "suspect", "later")} == {"canceled"}


def test_lane_with_job_that_waits_to_run_exclusively_is_not_idle(lane: Lane) -> None:
    lose_twice(lane.dispatcher.ledger, "suspect")
    suspect = threading.Thread(target=lane.run_job, args=("suspect",))
    with lane.not_beside_exclusive_job():
        assert lane.is_idle
        suspect.start()
        while not lane.is_isolated("suspect"):
            assert suspect.is_alive()
        assert (lane.is_idle, lane.running) == (False, 0)
    wait_for(lane, "suspect", "token")
    lane.dispatcher.ledger.cancel("suspect")
    suspect.join(WAIT_S)
    assert lane.is_idle


def test_reconciler_abandons_stale_run(lane: Lane) -> None:
    reconciler = Reconciler(lane)
    thread = start(lane, "a")
    store = lane.dispatcher.ledger.store
    store.client.hset(store.channel("a") + ":record", "cancel", "")
    reconciler.reconcile([])
    assert lane.running == 1  # it may have been claimed just now
    reconciler.reconcile([])
    thread.join(WAIT_S)
    assert lane.wait_idle(WAIT_S)
    assert event_types(lane, "a")[-1] == "token"


def test_lane_continues_after_job_that_ran_out_of_memory(
    lane: Lane, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(request: ChatRequest) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(engine, "submit", greedy)
        submit(lane.dispatcher.ledger, "a")
        assert lane.run_job("a") == "failed"
    assert (lane.dispatcher.ledger.get("a").error or {})["code"] == "out_of_memory"
    thread = start(lane, "b")
    lane.dispatcher.ledger.cancel("b")
    thread.join(WAIT_S)


def test_lane_ends_job_that_it_cannot_read_and_runs_others(lane: Lane) -> None:
    """A newer API has submitted one of two jobs, and this worker has one slot."""
    mine = WorkerCard("w1", "chat", "host", 1, "cpu", "fake", "fake", "chat.fake", 1, 0, state="ready")
    Registry(lane.dispatcher.ledger.store).renew(mine)
    submit(lane.dispatcher.ledger, "newer")
    store = lane.dispatcher.ledger.store
    store.client.hset(store.channel("newer") + ":record", "schema", "3")
    submit(lane.dispatcher.ledger, "next")
    assert lane.run_job("newer") == "failed"
    assert lane.dispatcher.ledger.events("newer")[-1].data["code"] == "unsupported"
    assert (lane.dispatcher.ledger.get("newer").error or {})["code"] == "unsupported"
    assert Registry(lane.dispatcher.ledger.store).jobs_of("w1") == []
    assert messages(lane) == {"next"}
    assert lane.running == 0


def test_reconciler_requeues_orphaned_job_that_it_cannot_read(lane: Lane) -> None:
    reconciler = Reconciler(lane)
    for job_id in ("newer", "other"):
        submit(lane.dispatcher.ledger, job_id)
        lane.dispatcher.ledger.claim(job_id, "w1", "cpu")
    store = lane.dispatcher.ledger.store
    store.client.hset(store.channel("newer") + ":record", "schema", "2")
    for _ in range(2):
        reconciler.reconcile(["newer", "other"])
    assert {lane.dispatcher.ledger.get(job_id).state for job_id in ("newer", "other")} == {"queued"}


def test_reconciler_requeues_orphaned_job(lane: Lane) -> None:
    reconciler = Reconciler(lane)
    thread = start(lane, "running")
    submit(lane.dispatcher.ledger, "orphaned")
    lane.dispatcher.ledger.claim("orphaned", "w1", "cpu")
    reconciler.reconcile(["running", "orphaned"])
    assert lane.dispatcher.ledger.get("orphaned").state == "running"  # it may have been claimed just now
    reconciler.reconcile(["running", "orphaned"])
    assert lane.dispatcher.ledger.get("orphaned").state == "queued"
    assert lane.dispatcher.ledger.get("running").state == "running"
    lane.dispatcher.ledger.cancel("running")
    thread.join(WAIT_S)


#: Returns all keys behind a prefix with their serialised values, as they are at one moment.
SNAPSHOT = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  found[#found + 1] = { key, redis.call('DUMP', key) }
end
return found
"""


def snapshot(lane: Lane) -> list[tuple[bytes, bytes]]:
    settings = lane.dispatcher.ledger.store.settings
    with redis.Redis.from_url(settings.broker_url) as client:
        found: Any = client.eval(SNAPSHOT, 0, settings.prefix)
        return found  # type: ignore[no-any-return]


def restore(lane: Lane, keys: list[tuple[bytes, bytes]]) -> None:
    """Go back to the snapshot: a failover has lost everything since then."""
    settings = lane.dispatcher.ledger.store.settings
    with redis.Redis.from_url(settings.broker_url) as client, client.pipeline() as pipe:
        for key in client.scan_iter(f"{settings.prefix}:*"):
            pipe.delete(key)
        for key, value in keys:
            pipe.restore(key, 0, value)
        pipe.execute()


def test_reconciler_offers_lost_end_again(lane: Lane) -> None:
    reconciler, ledger = Reconciler(lane), lane.dispatcher.ledger
    thread = start(lane, "a")
    wait_for(lane, "a", "token")
    keys = snapshot(lane)
    ledger.cancel("a")
    thread.join(WAIT_S)
    before = [event.text for event in ledger.events("a")]
    restore(lane, keys)
    reconciler.reconcile(["a"])
    assert ledger.get("a").state == "running"
    reconciler.reconcile(["a"])
    eventually(lambda: ledger.get("a").terminal, "the end", WAIT_S)
    assert [event.text for event in ledger.events("a")] == before


def test_lane_makes_lost_claim_again_when_message_comes_back(lane: Lane) -> None:
    ledger = lane.dispatcher.ledger
    submit(ledger, "a")
    keys = snapshot(lane)
    thread = threading.Thread(target=lane.run_job, args=("a",))
    thread.start()
    wait_for(lane, "a", "token")
    before, claim = [event.text for event in ledger.events("a")], ledger.get("a").claim
    restore(lane, keys)
    assert lane.run_job("a") == "not waiting"
    eventually(lambda: len(ledger.events("a")) >= len(before), "the events", WAIT_S)
    assert [event.text for event in ledger.events("a")][: len(before)] == before
    assert ledger.get("a").claim == claim
    ledger.cancel("a")
    thread.join(WAIT_S)
    assert ledger.get("a").state == "canceled"


def test_pool_wakes_hub_only_if_all_slots_were_taken() -> None:
    threads, woken = list[Callable[[], None]](), list[bool]()
    pool = LanePool(broker.app, slots=2, run_in_thread=threads.append)
    pool.on_slot_free = lambda: woken.append(True)

    def take(count: int) -> None:
        for _ in range(count):
            pool.apply_async(str, callback=lambda _: None)

    take(1)
    threads.pop()()
    assert not woken  # the hub has seen a free slot all along
    take(2)
    threads.pop()()
    assert len(woken) == 1
    threads.pop()()
    assert len(woken) == 1


def test_pool_takes_slots_of_further_choices() -> None:
    threads, woken, limits = list[Callable[[], None]](), list[bool](), list[int]()
    pool = LanePool(broker.app, slots=4, run_in_thread=threads.append)
    pool.on_slot_free, pool.on_limit = lambda: woken.append(True), limits.append
    pool.apply_async(str, callback=lambda _: None)
    pool.take_slots(3)
    assert not woken
    pool.take_slots(-3)
    assert (limits, woken) == ([1, 4], [True])
