"""Whose turn it is: fair between keys, by priority within one, with exact places."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.conftest import a_second_later
from tests.unit.test_recovery import card
from worker.jobs.errors import IdempotencyConflict, QueueFull
from worker.jobs.events import Canceled
from worker.jobs.ledger.appends import Append, Ended
from worker.jobs.ledger.ledger import IdempotencyKey, Ledger, Submitted
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.specs import validate

QUEUE = "chat.test"


def submit(ledger: Ledger, job_id: str, once: IdempotencyKey | None = None, priority: int = 5) -> Submitted:
    """The job's owner is its first letter."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "priority": priority}
    return ledger.submit(job_id, QUEUE, validate("chat", body), job_id[0], once)


def places(ledger: Ledger, *job_ids: str) -> list[int | None]:
    return [ledger.get(job_id).position for job_id in job_ids]


def order(ledger: Ledger) -> Sequence[str]:
    """All that wait, as slots for them would call them."""
    Registry(ledger).renew(card("w1", slots=1000))
    return Queues(ledger).dispatch(QUEUE)


def announce(ledger: Ledger) -> None:
    a_second_later(ledger)
    Queues(ledger).broadcast_positions(QUEUE)


def told(ledger: Ledger, job_id: str) -> list[int]:
    return [event.data["position"] for event in ledger.events(job_id) if event.type == "queued"]


def test_a_trickle_does_not_wait_behind_a_flood(ledger: Ledger) -> None:
    flood = [f"f{i:02}" for i in range(50)]
    for job_id in flood:
        submit(ledger, job_id)
    submit(ledger, "t1")
    submit(ledger, "t2")
    assert places(ledger, "t1", "t2", "f00", "f01", "f49") == [2, 4, 1, 3, 52]
    assert order(ledger) == ["f00", "t1", "f01", "t2", *flood[2:]]


def test_who_was_away_has_saved_no_turns(ledger: Ledger) -> None:
    Registry(ledger).renew(card("w1", slots=10))
    for i in range(20):
        submit(ledger, f"f{i:02}")  # ten of them are called
    for i in range(5):
        submit(ledger, f"t{i}")
    assert places(ledger, "t0", "t1", "t2", "f10", "f11") == [11, 13, 15, 12, 14]


def test_one_after_the_other_does_not_overtake_for_ever(ledger: Ledger) -> None:
    """A client that sends its next job when it has its answer takes turns with a flood."""
    Registry(ledger).renew(card("w1", slots=1))
    for i in range(10):
        submit(ledger, f"f{i}")
    calls = []
    submit(ledger, "a0")
    running = "f0"
    for i in range(1, 9):
        record = ledger.claim(running, "w1", "cpu")
        assert record
        (ended,) = ledger.append([Append(running, 1, record.events + 1, [Canceled()], {})])
        assert isinstance(ended, Ended)
        (running,) = ended.dispatched
        calls.append(running[0])
        if running[0] == "a":
            submit(ledger, f"a{i}")
    assert "".join(calls) == "aafafafa"


def test_jobs_that_end_together_call_each_of_the_next_once(ledger: Ledger) -> None:
    Registry(ledger).renew(card("w1", slots=2))
    for i in range(5):
        submit(ledger, f"a{i}")
    ends = []
    for job_id in ("a0", "a1"):
        assert ledger.claim(job_id, "w1", "cpu")
        ends.append(Append(job_id, 1, 3, [Canceled()], {}))
    assert ledger.append(ends) == [Ended([]), Ended(["a2", "a3"])]
    assert ledger.append(ends) == ["stale", "stale"]
    assert Queues(ledger).dispatch(QUEUE) == []


def test_priorities_count_within_a_key(ledger: Ledger) -> None:
    for job_id, priority in (("a1", 5), ("a2", 0), ("a3", 9), ("b1", 5), ("a4", 9)):
        submit(ledger, job_id, priority=priority)
    assert places(ledger, "a3", "b1", "a4", "a1", "a2") == [1, 2, 3, 4, 5]
    assert order(ledger) == ["a3", "b1", "a4", "a1", "a2"]


def test_only_as_many_are_called_as_slots_are_free(ledger: Ledger) -> None:
    registry = Registry(ledger)
    assert submit(ledger, "a1").dispatched == []
    registry.renew(card("w1", slots=2))
    assert submit(ledger, "a2").dispatched == ["a1", "a2"]
    assert submit(ledger, "a3").dispatched == []
    assert Queues(ledger).dispatch(QUEUE) == []
    ledger.claim("a1", "w1", "cpu")
    assert Queues(ledger).dispatch(QUEUE) == []
    ledger.cancel("a2")
    assert Queues(ledger).dispatch(QUEUE) == ["a3"]
    assert places(ledger, "a1", "a3") == [None, 1]


def test_who_was_called_for_slots_that_have_gone_goes_back_to_its_line(ledger: Ledger) -> None:
    registry = Registry(ledger)
    registry.renew(card("small", slots=1))
    registry.renew(card("big", slots=4))
    flood = [f"f{i}" for i in range(10)]
    for job_id in flood:
        submit(ledger, job_id)
    registry.renew(replace(card("big", slots=4), state="draining"))
    assert Queues(ledger).dispatch(QUEUE) == []
    submit(ledger, "t1")
    assert places(ledger, "f0", "t1", "f1", "f2", "f9") == [1, 3, 2, 4, 11]
    assert ledger.claim("f2", "other", "cpu")  # by the message that was on its way
    assert order(ledger) == ["t1", "f1", *flood[3:]]


def test_a_key_at_its_cap_is_passed_over(ledger: Ledger) -> None:
    ledger.redis.hset(ledger.key("key", "a"), "max_running", 1)
    for job_id in ("a1", "a2", "b1", "b2"):
        submit(ledger, job_id)
    assert order(ledger) == ["a1", "b1", "b2"]
    ledger.claim("a1", "w1", "cpu")
    assert Queues(ledger).dispatch(QUEUE) == []
    ledger.requeue("a1", "w1", "drain")
    assert Queues(ledger).dispatch(QUEUE) == ["a1"]


def test_a_key_at_its_cap_saves_no_turns(ledger: Ledger) -> None:
    ledger.redis.hset(ledger.key("key", "a"), "max_running", 1)
    Registry(ledger).renew(card("w1", slots=1))
    submit(ledger, "a0")
    for i in range(1, 6):
        submit(ledger, f"a{i}")
    for i in range(10):
        submit(ledger, f"b{i}")
    Registry(ledger).renew(card("w1", slots=6))
    assert Queues(ledger).dispatch(QUEUE) == ["b0", "b1", "b2", "b3", "b4"]
    ledger.redis.hdel(ledger.key("key", "a"), "max_running")
    assert order(ledger) == ["a1", "a2", "b5", "a3", "b6", "a4", "b7", "a5", "b8", "b9"]


def test_more_than_may_wait_are_refused(ledger: Ledger) -> None:
    ledger.redis.hset(ledger.key("key", "a"), "max_waiting", 2)
    submit(ledger, "a1")
    submit(ledger, "a2")
    with pytest.raises(QueueFull, match="this API key"):
        submit(ledger, "a3")
    with pytest.raises(QueueFull, match="this API key"):
        Queues(ledger).check_room(QUEUE, "a")
    submit(ledger, "b1")
    ledger.claim("a1", "w1", "cpu")
    Queues(ledger).check_room(QUEUE, "a")
    small = Ledger(ledger.settings.replace(max_waiting=2))
    with pytest.raises(QueueFull, match=QUEUE):
        submit(small, "b2")
    small.redis.close()


def test_places_are_told_when_they_change(ledger: Ledger) -> None:
    for job_id in ("a1", "a2", "a3"):
        submit(ledger, job_id)
    announce(ledger)
    ledger.claim("a1", "w1", "cpu")
    announce(ledger)
    announce(ledger)
    submit(ledger, "b1")
    announce(ledger)
    assert (told(ledger, "a2"), told(ledger, "a3"), told(ledger, "b1")) == ([2, 1, 2], [3, 2, 3], [1])
    assert places(ledger, "b1", "a2", "a3") == [1, 2, 3]
    ledger.requeue("a1", "w1", "drain")
    announce(ledger)
    assert (told(ledger, "a1"), told(ledger, "a2")) == ([1], [2, 1, 2, 3])


def test_a_place_is_told_once_a_second(ledger: Ledger) -> None:
    for job_id in ("a1", "a2", "a3"):
        submit(ledger, job_id)
    for job_id in ("a1", "a2"):
        ledger.claim(job_id, "w1", "cpu")
        Queues(ledger).broadcast_positions(QUEUE)
    assert told(ledger, "a3") == [3]
    announce(ledger)
    assert told(ledger, "a3") == [3, 1]


def test_far_behind_a_place_is_told_less_often(ledger: Ledger) -> None:
    jobs = [f"a{i:02}" for i in range(90)]
    for job_id in jobs:
        submit(ledger, job_id)
    for job_id in jobs[:50]:
        ledger.cancel(job_id)
        announce(ledger)
    places_told = told(ledger, jobs[-1])
    assert places_told[0] == 90
    assert 40 <= places_told[-1] <= 42
    assert 10 <= len(places_told) <= 20


def test_a_start_is_estimated_from_what_jobs_took(ledger: Ledger) -> None:
    Registry(ledger).renew(card("w1", slots=2))
    for job_id in ("a1", "a2", "a3", "a4"):
        submit(ledger, job_id)
    for job_id in ("a1", "a2"):
        ledger.claim(job_id, "w1", "cpu")
    assert ledger.get("a3").estimated_wait_s is None
    ledger.redis.hset(ledger.key("service"), QUEUE, 10)
    assert [ledger.get(job_id).estimated_wait_s for job_id in ("a1", "a3", "a4")] == [None, 5.0, 10.0]
    assert Queues(ledger).get(QUEUE).estimated_wait_s == 15.0


def test_a_job_that_redis_has_lost_holds_no_place_of_its_key(ledger: Ledger) -> None:
    ledger.redis.sadd(ledger.key("keys"), "a")
    ledger.redis.hset(ledger.key("key", "a"), mapping={"max_running": 1, "max_waiting": 3})
    Registry(ledger).renew(card("w1", slots=2))
    for job_id in ("a1", "a2", "a3"):
        submit(ledger, job_id)
    for job_id in ("a1", "a2"):  # called, and in its line
        ledger.redis.delete(ledger.channel(job_id) + ":record")
    assert Queues(ledger).dispatch(QUEUE) == []
    Queues(ledger).drop_dispatched(QUEUE, "a1")
    assert Queues(ledger).dispatch(QUEUE) == ["a3"]
    assert places(ledger, "a3") == [1]
    for job_id in ("a4", "a5"):
        submit(ledger, job_id)


def test_one_idempotency_key_makes_one_job_of_its_owner(ledger: Ledger) -> None:
    once = IdempotencyKey("k", "body")
    assert submit(ledger, "a1", once).job_id == "a1"
    assert submit(ledger, "a2", once).job_id == "a1"
    assert submit(ledger, "b1", once).job_id == "b1"
    with pytest.raises(IdempotencyConflict):
        submit(ledger, "a3", IdempotencyKey("k", "other"))
    ledger.cancel("a1")
    assert submit(ledger, "a4", once).job_id == "a1"
    ledger.forget("a1")
    assert submit(ledger, "a5", once).job_id == "a5"
    assert [record.id for record in ledger.page(owner="a")] == ["a5"]
