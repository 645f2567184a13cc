import threading
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import lapse
from tests.support.fake_engine import FakeEngine
from worker.chat.engine import ChatRequest
from worker.chat.runner import ChatRunner
from worker.jobs import broker
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.records import WorkerCard
from worker.jobs.specs import validate
from worker.lane.lane import Lane
from worker.lane.pool import LanePool
from worker.lane.reconciler import Reconciler
from worker.runs.outbox import Outbox

WAIT_S = 20.0


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([" word"] * 100_000, slots=2, step_s=0.001)


@pytest.fixture
def lane(brokered: Ledger, engine: FakeEngine) -> Iterator[Lane]:
    outbox = Outbox(brokered)
    runner = ChatRunner(engine, "fake", brokered, outbox)
    runner.start(lambda error: None)
    outbox.start()
    yield Lane(brokered, outbox, runner, "w1", "cpu")
    runner.stop()
    outbox.stop(WAIT_S)


def submit(ledger: Ledger, job_id: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100_000}
    ledger.submit(job_id, "chat.fake", validate("chat", body))


def start(lane: Lane, job_id: str) -> threading.Thread:
    """Run the job in a thread; returns when it has said something."""
    submit(lane.ledger, job_id)
    thread = threading.Thread(target=lane.run, args=(job_id,))
    thread.start()
    wait_for(lane, job_id, "token")
    return thread


def wait_for(lane: Lane, job_id: str, kind: str) -> None:
    listener = lane.ledger.redis.pubsub()  # type: ignore[no-untyped-call]
    listener.subscribe(lane.ledger.channel(job_id))
    while kind not in [event.type for event in lane.ledger.events(job_id)]:
        assert listener.get_message(timeout=WAIT_S), f"{job_id} had no {kind}"
    listener.close()


def test_a_job_runs_while_the_lane_knows_it(lane: Lane) -> None:
    thread = start(lane, "a")
    assert lane.running == 1
    lane.ledger.cancel("a")
    thread.join(WAIT_S)
    assert lane.wait_idle(WAIT_S)
    assert lane.ledger.get("a").state == "canceled"


def test_a_duplicate_hint_runs_nothing(lane: Lane) -> None:
    thread = start(lane, "a")
    assert lane.run("a") == "not waiting"
    lane.ledger.cancel("a")
    thread.join(WAIT_S)


def test_what_runs_is_handed_back_and_what_comes_meanwhile_is_not_claimed(lane: Lane) -> None:
    other = WorkerCard("w2", "chat", "host", 1, "cpu", "fake", "fake", "chat.fake", 4, 0, state="ready")
    Registry(lane.ledger).renew(other)
    thread = start(lane, "a")
    lane.hand_back()
    thread.join(WAIT_S)
    submit(lane.ledger, "late")
    assert lane.run("late") == "not waiting"
    assert types(lane, "late") == ["queued"]
    assert types(lane, "a")[-1] == "requeued"
    assert lane.ledger.events("a")[-1].data["reason"] == "drain"
    assert broker.queued_messages(lane.ledger.settings, lane.ledger.redis, "chat.fake") == {"a", "late"}


def test_a_free_slot_calls_the_next_job(lane: Lane) -> None:
    mine = WorkerCard("w1", "chat", "host", 1, "cpu", "fake", "fake", "chat.fake", 1, 0, state="ready")
    Registry(lane.ledger).renew(mine)
    thread = start(lane, "a")
    submit(lane.ledger, "b")
    submit(lane.ledger, "c")
    assert broker.queued_messages(lane.ledger.settings, lane.ledger.redis, "chat.fake") == set()
    lane.ledger.cancel("a")
    thread.join(WAIT_S)
    assert broker.queued_messages(lane.ledger.settings, lane.ledger.redis, "chat.fake") == {"b"}


def test_a_hint_that_claims_nothing_leaves_its_slot_to_another(lane: Lane) -> None:
    mine = WorkerCard("w1", "chat", "host", 1, "cpu", "fake", "fake", "chat.fake", 1, 0, state="ready")
    Registry(lane.ledger).renew(mine)
    submit(lane.ledger, "a")
    submit(lane.ledger, "b")
    lane.ledger.cancel("a")
    assert lane.run("a") == "not waiting"
    assert broker.queued_messages(lane.ledger.settings, lane.ledger.redis, "chat.fake") == {"b"}


def test_a_message_is_not_spelled_out_for_a_line_that_nobody_reads() -> None:
    spelled, done = list[bool](), threading.Event()

    class Argument:
        def __repr__(self) -> str:
            spelled.append(True)
            return "…"

    LanePool(broker.app, 1).apply_async(id, (Argument(),), callback=lambda _: done.set())
    assert done.wait(WAIT_S)
    assert not spelled


def types(lane: Lane, job_id: str) -> list[str]:
    return [event.type for event in lane.ledger.events(job_id)]


def lose_twice(ledger: Ledger, job_id: str) -> None:
    submit(ledger, job_id)
    for worker in ("dead1", "dead2"):
        ledger.claim(job_id, worker, "cpu")
        lapse(ledger, worker)
        ledger.requeue(job_id, worker, "worker_lost")


def test_a_job_that_may_kill_its_worker_waits_until_it_is_alone(lane: Lane) -> None:
    first = start(lane, "innocent")
    lose_twice(lane.ledger, "suspect")
    suspect = threading.Thread(target=lane.run, args=("suspect",))
    suspect.start()
    while not lane.waits_isolated("suspect"):
        assert suspect.is_alive()
    assert lane.run("suspect") == "not waiting"  # a second hint
    submit(lane.ledger, "later")
    later = threading.Thread(target=lane.run, args=("later",))
    later.start()
    assert types(lane, "suspect")[-1] == "requeued"
    lane.ledger.cancel("innocent")
    first.join(WAIT_S)
    wait_for(lane, "suspect", "token")
    assert types(lane, "later") == ["queued"]
    lane.ledger.cancel("suspect")
    suspect.join(WAIT_S)
    wait_for(lane, "later", "token")
    lane.ledger.cancel("later")
    later.join(WAIT_S)
    assert {lane.ledger.get(i).state for i in ("innocent", "suspect", "later")} == {"canceled"}


def test_a_run_that_has_not_heard_of_its_jobs_end_is_dropped(lane: Lane) -> None:
    reconciler = Reconciler(lane)
    thread = start(lane, "a")
    lane.ledger.redis.hset(lane.ledger.channel("a") + ":record", "cancel", "")
    reconciler.reconcile([])
    assert lane.running == 1  # it may have been claimed just now
    reconciler.reconcile([])
    thread.join(WAIT_S)
    assert lane.wait_idle(WAIT_S)
    assert types(lane, "a")[-1] == "token"


def test_a_job_that_takes_all_memory_fails_and_the_lane_goes_on(
    lane: Lane, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(request: ChatRequest) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(engine, "submit", greedy)
        submit(lane.ledger, "a")
        assert lane.run("a") == "failed"
    assert (lane.ledger.get("a").error or {})["code"] == "out_of_memory"
    thread = start(lane, "b")
    lane.ledger.cancel("b")
    thread.join(WAIT_S)


def test_a_claim_that_never_got_its_answer_is_queued_again(lane: Lane) -> None:
    reconciler = Reconciler(lane)
    thread = start(lane, "running")
    submit(lane.ledger, "stray")
    lane.ledger.claim("stray", "w1", "cpu")
    reconciler.reconcile(["running", "stray"])
    assert lane.ledger.get("stray").state == "running"  # it may have been claimed just now
    reconciler.reconcile(["running", "stray"])
    assert lane.ledger.get("stray").state == "queued"
    assert lane.ledger.get("running").state == "running"
    lane.ledger.cancel("running")
    thread.join(WAIT_S)


def test_pool_wakes_the_hub_only_if_all_slots_were_taken() -> None:
    threads, woken = list[Callable[[], None]](), list[bool]()
    pool = LanePool(broker.app, slots=2, run_in_thread=threads.append)
    pool.on_slot_free = lambda: woken.append(True)

    def take(count: int) -> None:
        for _ in range(count):
            pool.apply_async(str, callback=lambda _: None)

    take(1)
    threads.pop()()
    assert not woken  # the hub has seen a free slot all the time
    take(2)
    threads.pop()()
    assert len(woken) == 1
    threads.pop()()
    assert len(woken) == 1
