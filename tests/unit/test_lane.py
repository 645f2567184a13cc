import threading
from collections.abc import Iterator

import pytest

from tests.contract.fake_engine import FakeEngine
from worker.chat.runner import ChatRunner
from worker.jobs import broker
from worker.jobs.ledger import Ledger
from worker.jobs.specs import validate
from worker.lane import Lane
from worker.outbox import Outbox

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
    yield Lane(broker.app, brokered, outbox, runner, "w1", "cpu")
    runner.stop()
    outbox.stop(WAIT_S)


def submit(ledger: Ledger, job_id: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100_000}
    ledger.submit(job_id, "chat.fake", validate("chat", body))


def start(lane: Lane, job_id: str) -> threading.Thread:
    """Run the job in a thread; returns when it has said something."""
    submit(lane.ledger, job_id)
    thread = threading.Thread(target=lane.run, args=(job_id,))
    listener = lane.ledger.redis.pubsub()  # type: ignore[no-untyped-call]
    listener.subscribe(lane.ledger.channel(job_id))
    thread.start()
    while '"token"' not in str(listener.get_message(timeout=WAIT_S)["data"]):
        pass
    listener.close()
    return thread


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


def test_what_runs_is_handed_back_and_so_is_what_is_claimed_meanwhile(lane: Lane) -> None:
    thread = start(lane, "a")
    assert lane.hand_back()
    thread.join(WAIT_S)
    submit(lane.ledger, "late")
    assert lane.run("late") == "abandoned"
    for job_id in ("a", "late"):
        assert lane.ledger.get(job_id).state == "queued"
        assert lane.ledger.events(job_id)[-1].data["reason"] == "drain"
    urgent, _ = broker.hint_keys(lane.ledger.settings, "chat.fake")
    assert lane.ledger.redis.llen(urgent) == 2


def test_a_claim_that_never_got_its_answer_is_queued_again(lane: Lane) -> None:
    thread = start(lane, "running")
    submit(lane.ledger, "stray")
    lane.ledger.claim("stray", "w1", "cpu")
    lane.heal(["running", "stray"])
    assert lane.ledger.get("stray").state == "running"  # it may have been claimed just now
    lane.heal(["running", "stray"])
    assert lane.ledger.get("stray").state == "queued"
    assert lane.ledger.get("running").state == "running"
    lane.ledger.cancel("running")
    thread.join(WAIT_S)
