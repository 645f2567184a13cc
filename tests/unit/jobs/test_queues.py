"""The order of waiting jobs: fair between owners, by priority within an owner, with exact positions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

import pytest

from tests.support.ledger import QUEUE, a_second_later, append_of, card, index_flaws
from worker.jobs.broker import messages_key, queued_messages
from worker.jobs.errors import (
    IdempotencyConflict,
    NeedsExclusiveWorker,
    QueueFull,
    QueueNotFound,
    WorkerNotFound,
)
from worker.jobs.events import Canceled
from worker.jobs.ledger.appends import Appended
from worker.jobs.ledger.ledger import IdempotencyKey, Ledger, Submitted
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.scripts import Scripts
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate
from worker.jobs.stored import to_json


def submit(
    ledger: Ledger, job_id: str, key: IdempotencyKey | None = None, priority: int = 5, n: int = 1
) -> Submitted:
    """Submit a job whose owner is the first letter of its id."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "priority": priority, "n": n}
    return ledger.submit(job_id, QUEUE, validate(ChatJob, body), job_id[0], key)


def positions(ledger: Ledger, *job_ids: str) -> list[int | None]:
    return [ledger.get(job_id).position for job_id in job_ids]


def order(ledger: Ledger) -> Sequence[str]:
    """Dispatch all waiting jobs and return their order."""
    Registry(ledger.store).renew(card("w1", slots=1000))
    return Queues(ledger.store).dispatch_jobs(QUEUE)


def broadcast(ledger: Ledger) -> None:
    a_second_later(ledger)
    Queues(ledger.store).broadcast_positions(QUEUE)


def jobs_with_message(ledger: Ledger) -> set[str]:
    return queued_messages(ledger.store.settings, ledger.store.client, QUEUE)


def logged_positions(ledger: Ledger, job_id: str) -> list[int]:
    return [event.data["position"] for event in ledger.events(job_id) if event.type == "queued"]


def test_dispatch_alternates_between_owners(ledger: Ledger) -> None:
    flood = [f"f{i:02}" for i in range(50)]
    for job_id in flood:
        submit(ledger, job_id)
    submit(ledger, "t1")
    submit(ledger, "t2")
    assert positions(ledger, "t1", "t2", "f00", "f01", "f49") == [2, 4, 1, 3, 52]
    assert order(ledger) == ["f00", "t1", "f01", "t2", *flood[2:]]


def test_position_gives_no_credit_for_idle_time(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1", slots=10))
    for i in range(20):
        submit(ledger, f"f{i:02}")  # ten of them are dispatched
    for i in range(5):
        submit(ledger, f"t{i}")
    assert positions(ledger, "t0", "t1", "t2", "f10", "f11") == [11, 13, 15, 12, 14]


def test_dispatch_alternates_with_one_job_at_a_time(ledger: Ledger) -> None:
    """A client that submits a job after each answer alternates with the client of a flood."""
    Registry(ledger.store).renew(card("w1", slots=1))
    for i in range(10):
        submit(ledger, f"f{i}")
    order_of_owners = []
    submit(ledger, "a0")
    running = "f0"
    for i in range(1, 9):
        record = ledger.claim(running, "w1", "cpu")
        assert record
        ((_, (running,)),) = ledger.append(
            [append_of(ledger, running, record.events + 1, [Canceled()], {})]
        ).dispatched
        order_of_owners.append(running[0])
        if running[0] == "a":
            submit(ledger, f"a{i}")
    assert "".join(order_of_owners) == "aafafafa"


def test_dispatch_of_many_jobs_takes_several_scripts(ledger: Ledger) -> None:
    jobs = [f"a{number}" for number in range(70)]
    for job_id in jobs:
        submit(ledger, job_id)
    Registry(ledger.store).renew(card("w1", slots=1000))
    args = ledger.store.settings.prefix, QUEUE
    assert [len(ledger.store.scripts.eval("dispatch", *args)) for _ in range(3)] == [64, 6, 0]
    assert jobs_with_message(ledger) == set(jobs)


def test_append_dispatches_each_next_job_once(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1", slots=2))
    for i in range(5):
        submit(ledger, f"a{i}")
    ends = []
    for job_id in ("a0", "a1"):
        assert ledger.claim(job_id, "w1", "cpu")
        ends.append(append_of(ledger, job_id, 3, [Canceled()], {}))
    assert ledger.append(ends) == Appended(["ended", "ended"], [(QUEUE, ["a2", "a3"])])
    assert ledger.append(ends) == Appended(["ended", "ended"], [])
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == []


def test_priority_counts_within_owner(ledger: Ledger) -> None:
    for job_id, priority in (("a1", 5), ("a2", 0), ("a3", 9), ("b1", 5), ("a4", 9)):
        submit(ledger, job_id, priority=priority)
    assert positions(ledger, "a3", "b1", "a4", "a1", "a2") == [1, 2, 3, 4, 5]
    assert order(ledger) == ["a3", "b1", "a4", "a1", "a2"]


def test_dispatch_only_to_free_slots(ledger: Ledger) -> None:
    registry = Registry(ledger.store)
    assert submit(ledger, "a1").dispatched == []
    registry.renew(card("w1", slots=2))
    assert submit(ledger, "a2").dispatched == ["a1", "a2"]
    assert submit(ledger, "a3").dispatched == []
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == []
    ledger.claim("a1", "w1", "cpu")
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == []
    ledger.cancel("a2")
    assert jobs_with_message(ledger) == {"a1", "a2", "a3"}
    assert positions(ledger, "a1", "a3") == [None, 1]


def test_undispatch_when_slots_disappear(ledger: Ledger) -> None:
    registry = Registry(ledger.store)
    registry.renew(card("small", slots=1))
    registry.renew(card("big", slots=4))
    flood = [f"f{i}" for i in range(10)]
    for job_id in flood:
        submit(ledger, job_id)
    registry.renew(replace(card("big", slots=4), state="draining"))
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == []
    submit(ledger, "t1")
    assert positions(ledger, "f0", "t1", "f1", "f2", "f9") == [1, 3, 2, 4, 11]
    assert ledger.claim("f2", "other", "cpu")  # by the message of the earlier dispatch
    assert order(ledger) == ["t1", "f1", *flood[3:]]


def test_dispatch_skips_owner_at_cap(ledger: Ledger) -> None:
    ledger.store.client.hset(ledger.store.key("key", "a"), "max_running", 1)
    for job_id in ("a1", "a2", "b1", "b2"):
        submit(ledger, job_id)
    assert order(ledger) == ["a1", "b1", "b2"]
    ledger.claim("a1", "w1", "cpu")
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == []
    ledger.store.client.delete(messages_key(ledger.store.settings, QUEUE))
    ledger.requeue("a1", "w1", "drain")
    assert jobs_with_message(ledger) == {"a1"}


def test_dispatch_charges_a_turn_for_each_choice(ledger: Ledger) -> None:
    submit(ledger, "a1", n=3)
    for job_id in ("a2", "b1", "b2", "b3", "b4"):
        submit(ledger, job_id)
    assert order(ledger) == ["a1", "b1", "b2", "b3", "a2", "b4"]


def test_dispatch_counts_choices_as_slots(ledger: Ledger) -> None:
    """One free slot is enough for a job, and its other choices are taken off the slots that become free."""
    Registry(ledger.store).renew(card("w1", slots=3))
    assert submit(ledger, "a1", n=2).dispatched == ["a1"]
    assert submit(ledger, "a2", n=4).dispatched == ["a2"]
    assert submit(ledger, "a3").dispatched == []
    for job_id in ("a1", "a2"):
        assert ledger.claim(job_id, "w1", "cpu")
    assert ledger.append([append_of(ledger, "a1", 3, [Canceled()])]).dispatched == []
    assert ledger.append([append_of(ledger, "a2", 3, [Canceled()])]).dispatched == [(QUEUE, ["a3"])]


def test_undispatch_keeps_job_of_many_choices_while_a_slot_is_free(ledger: Ledger) -> None:

    def dispatched() -> Sequence[str]:
        assert Queues(ledger.store).dispatch_jobs(QUEUE) == []
        return Queues(ledger.store).dispatched_before(QUEUE, math.inf, 0)

    Registry(ledger.store).renew(card("w1", slots=2))
    assert submit(ledger, "a1").dispatched == ["a1"]
    assert submit(ledger, "a2", n=8).dispatched == ["a2"]
    assert ledger.claim("a1", "w1", "cpu")
    assert set(dispatched()) == {"a2"}
    Registry(ledger.store).renew(card("w1", slots=1))
    assert dispatched() == []


def test_cap_on_running_jobs_counts_choices(ledger: Ledger) -> None:
    ledger.store.client.hset(ledger.store.key("key", "a"), "max_running", 4)
    for job_id, n in (("a1", 3), ("a2", 2), ("a3", 1), ("b1", 1)):
        submit(ledger, job_id, n=n)
    assert order(ledger) == ["a1", "b1"]
    assert ledger.claim("a1", "w1", "cpu")
    assert ledger.append([append_of(ledger, "a1", 3, [Canceled()])]).dispatched == [(QUEUE, ["a2", "a3"])]


def test_cap_on_waiting_jobs_counts_choices(ledger: Ledger) -> None:
    ledger.store.client.hset(ledger.store.key("key", "a"), "max_waiting", 4)
    submit(ledger, "a1", n=3)
    with pytest.raises(QueueFull, match="no more jobs of this API key"):
        submit(ledger, "a2", n=2)
    submit(ledger, "a3")
    ledger.cancel("a1")
    submit(ledger, "a4", n=3)


def test_lengths_that_an_older_version_left_behind_are_dropped(ledger: Ledger) -> None:
    """An older version removes jobs from their sets, and does not know of their lengths."""
    sets = [ledger.store.key("owner", "a", part) for part in ("waiting", "active")]
    sets += [ledger.store.key("worker", "w1", "jobs"), ledger.store.key("queue", QUEUE, "called")]
    ledger.store.client.hset(ledger.store.key("lengths"), mapping=dict.fromkeys(sets, 100))
    ledger.store.client.hset(ledger.store.key("key", "a"), mapping={"max_waiting": 3, "max_running": 3})
    Registry(ledger.store).renew(card("w1", slots=2))
    assert submit(ledger, "a1", n=3).dispatched == ["a1"]


def test_dispatch_gives_no_credit_at_cap(ledger: Ledger) -> None:
    ledger.store.client.hset(ledger.store.key("key", "a"), "max_running", 1)
    Registry(ledger.store).renew(card("w1", slots=1))
    submit(ledger, "a0")
    for i in range(1, 6):
        submit(ledger, f"a{i}")
    for i in range(10):
        submit(ledger, f"b{i}")
    Registry(ledger.store).renew(card("w1", slots=6))
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == ["b0", "b1", "b2", "b3", "b4"]
    ledger.store.client.hdel(ledger.store.key("key", "a"), "max_running")
    broadcast(ledger)  # recovery finds out that the cap is gone
    assert order(ledger) == ["a1", "a2", "b5", "a3", "b6", "a4", "b7", "a5", "b8", "b9"]


def test_submit_refuses_more_than_max_waiting(ledger: Ledger) -> None:
    ledger.store.client.hset(ledger.store.key("key", "a"), "max_waiting", 2)
    submit(ledger, "a1")
    submit(ledger, "a2")
    with pytest.raises(QueueFull, match="this API key"):
        submit(ledger, "a3")
    with pytest.raises(QueueFull, match="this API key"):
        Queues(ledger.store).check_room(QUEUE, "a")
    submit(ledger, "b1")
    ledger.claim("a1", "w1", "cpu")
    Queues(ledger.store).check_room(QUEUE, "a")
    small = Ledger(RedisStore(ledger.store.settings.replace(max_waiting=2)))
    with pytest.raises(QueueFull, match=QUEUE):
        submit(small, "b2")
    small.store.close()


def test_positions_are_broadcast_when_changed(ledger: Ledger) -> None:
    for job_id in ("a1", "a2", "a3"):
        submit(ledger, job_id)
    broadcast(ledger)
    ledger.claim("a1", "w1", "cpu")
    broadcast(ledger)
    broadcast(ledger)
    submit(ledger, "b1")
    broadcast(ledger)
    found = [logged_positions(ledger, job_id) for job_id in ("a2", "a3", "b1")]
    assert found == [[2, 1, 2], [3, 2, 3], [1]]
    assert positions(ledger, "b1", "a2", "a3") == [1, 2, 3]
    ledger.requeue("a1", "w1", "drain")
    broadcast(ledger)
    assert (logged_positions(ledger, "a1"), logged_positions(ledger, "a2")) == ([1], [2, 1, 2, 3])


def test_positions_are_broadcast_once_a_second(ledger: Ledger) -> None:
    for job_id in ("a1", "a2", "a3"):
        submit(ledger, job_id)
    for job_id in ("a1", "a2"):
        ledger.claim(job_id, "w1", "cpu")
        Queues(ledger.store).broadcast_positions(QUEUE)
    assert logged_positions(ledger, "a3") == [3]
    broadcast(ledger)
    assert logged_positions(ledger, "a3") == [3, 1]


def test_positions_far_behind_are_broadcast_less_often(ledger: Ledger) -> None:
    jobs = [f"a{i:02}" for i in range(90)]
    for job_id in jobs:
        submit(ledger, job_id)
    for job_id in jobs[:50]:
        ledger.cancel(job_id)
        broadcast(ledger)
    found = logged_positions(ledger, jobs[-1])
    assert found[0] == 90
    assert 40 <= found[-1] <= 42
    assert 10 <= len(found) <= 20


def test_change_within_a_broadcast_is_broadcast_by_the_next(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broadcast to many jobs is several scripts, and the queue may change between two of them."""
    jobs = [f"a{i:02}" for i in range(60)]
    for job_id in jobs:
        submit(ledger, job_id)
    ledger.cancel("a00")
    scripts, late = ledger.store.scripts, ["a01"]

    def evaluate(name: str, *args: Any) -> Any:
        reply = Scripts.eval(scripts, name, *args)
        if name == "broadcast_positions" and late:
            ledger.cancel(late.pop())
        return reply

    monkeypatch.setattr(scripts, "eval", evaluate)
    broadcast(ledger)
    broadcast(ledger)
    assert logged_positions(ledger, "a02") == [3, 2, 1]


def test_estimated_wait_uses_average_run_time(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1", slots=2))
    for job_id in ("a1", "a2", "a3", "a4"):
        submit(ledger, job_id)
    for job_id in ("a1", "a2"):
        ledger.claim(job_id, "w1", "cpu")
    assert ledger.get("a3").estimated_start is None
    ledger.store.client.hset(ledger.store.key("service"), QUEUE, 10)
    now, starts = ledger.store.clock.now(), [ledger.get(job_id).estimated_start for job_id in ("a3", "a4")]
    assert starts == [pytest.approx(now + 5, abs=2), pytest.approx(now + 10, abs=2)]
    assert ledger.get("a1").estimated_start is None
    assert Queues(ledger.store).info(QUEUE).estimated_wait_s == 15.0


def test_dispatch_drops_job_without_record(ledger: Ledger) -> None:
    ledger.store.client.sadd(ledger.store.key("keys"), "a")
    ledger.store.client.hset(ledger.store.key("key", "a"), mapping={"max_running": 1, "max_waiting": 3})
    Registry(ledger.store).renew(card("w1", slots=2))
    for job_id in ("a1", "a2", "a3"):
        submit(ledger, job_id)
    for job_id in ("a1", "a2"):  # a1 is dispatched, a2 is in its flow
        ledger.store.client.delete(ledger.store.channel(job_id) + ":record")
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == []
    Queues(ledger.store).drop_dispatched(QUEUE, "a1")
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == ["a3"]
    assert positions(ledger, "a3") == [1]
    for job_id in ("a4", "a5"):
        submit(ledger, job_id)


def test_submit_with_idempotency_key_makes_one_job(ledger: Ledger) -> None:
    key = IdempotencyKey("k", "body")
    assert submit(ledger, "a1", key).job_id == "a1"
    assert submit(ledger, "a2", key).job_id == "a1"
    assert submit(ledger, "b1", key).job_id == "b1"
    with pytest.raises(IdempotencyConflict):
        submit(ledger, "a3", IdempotencyKey("k", "other"))
    ledger.cancel("a1")
    assert submit(ledger, "a4", key).job_id == "a1"
    ledger.forget("a1")
    assert submit(ledger, "a5", key).job_id == "a5"
    assert [record.id for record in ledger.page(owner="a")] == ["a5"]


def test_paused_queue_gives_workers_nothing_until_it_is_resumed(ledger: Ledger) -> None:
    queues, registry = Queues(ledger.store), Registry(ledger.store)
    registry.renew(card("w1", slots=2))
    assert submit(ledger, "a1").dispatched == ["a1"]
    assert submit(ledger, "a2").dispatched == ["a2"]
    running = ledger.claim("a1", "w1", "cpu")
    assert running
    queues.pause(QUEUE)
    assert ledger.claim("a2", "w1", "cpu") is None  # its message was on its way
    assert submit(ledger, "b1").dispatched == []
    assert queues.dispatch_jobs(QUEUE) == []
    end = append_of(ledger, "a1", running.events + 1, [Canceled()])
    assert ledger.append([end]) == Appended(["ended"], [])  # the running job goes on to its end
    now = ledger.store.clock.now()
    assert queues.dispatched_before(QUEUE, now + 9, now) == []  # recovery sends no message again
    info = queues.info(QUEUE)
    assert (info.paused, info.waiting, info.slots, info.estimated_wait_s) == (True, 2, 2, None)
    assert [ledger.get(job_id).estimated_start for job_id in ("a2", "b1")] == [None, None]
    assert positions(ledger, "a2", "b1") == [1, 2]
    queues.resume(QUEUE)
    assert queues.dispatch_jobs(QUEUE) == ["a2", "b1"]
    assert ledger.claim("a2", "w1", "cpu")
    assert not queues.info(QUEUE).paused


def test_paused_queue_takes_a_job_back_that_waits_for_isolation(ledger: Ledger) -> None:
    queues, registry = Queues(ledger.store), Registry(ledger.store)
    registry.renew(card("w1", slots=2))
    submit(ledger, "a1")
    for _ in range(2):
        assert ledger.claim("a1", "w1", "cpu")
        ledger.requeue("a1", "w1", "worker_lost")
        queues.dispatch_jobs(QUEUE)
    with pytest.raises(NeedsExclusiveWorker):
        ledger.claim("a1", "w1", "cpu")
    queues.pause(QUEUE)
    assert ledger.claim("a1", "w1", "cpu", exclusive=True) is None
    assert queues.dispatch_jobs(QUEUE) == []
    queues.resume(QUEUE)
    assert queues.dispatch_jobs(QUEUE) == ["a1"]


def test_pause_of_a_queue_that_does_not_exist_is_refused(ledger: Ledger) -> None:
    with pytest.raises(QueueNotFound):
        Queues(ledger.store).pause("chat.none")


def test_drain_reaches_the_worker_with_its_next_heartbeat(ledger: Ledger) -> None:
    registry = Registry(ledger.store)
    assert not registry.renew(card("w1")).drain
    assert registry.drain("w1").name == "w1"
    assert [registry.renew(card(name)).drain for name in ("w1", "w2")] == [True, False]
    registry.release("w1")
    with pytest.raises(WorkerNotFound):
        registry.drain("w1")
    assert not registry.renew(card("w1")).drain


def submit_background(ledger: Ledger, *job_ids: str) -> None:
    spec = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
    for job_id in job_ids:
        ledger.submit(job_id, QUEUE, spec, job_id[0], background=True)


def test_background_jobs_come_after_all_other_jobs(ledger: Ledger) -> None:
    submit_background(ledger, "a1", "b1", "a2", "b2")
    for job_id, priority in (("b3", 0), ("c1", 5), ("b4", 9)):
        submit(ledger, job_id, priority=priority)
    expected = ["b4", "c1", "b3", "a1", "a2", "b1", "b2"]  # a gets the turns that b had meanwhile
    assert sorted(expected, key=lambda job_id: ledger.get(job_id).position or 0) == expected
    assert positions(ledger, *expected) == [1, 2, 3, 4, 5, 6, 7]
    broadcast(ledger)
    assert [logged_positions(ledger, job_id) for job_id in ("b4", "c1", "a1")] == [[1], [2], [1]]
    assert order(ledger) == expected


@pytest.mark.parametrize(("slots", "used"), [(1, 1), (2, 1), (8, 7), (32, 28)])
def test_background_jobs_leave_slots_free(ledger: Ledger, slots: int, used: int) -> None:
    submit_background(ledger, *(f"a{number}" for number in range(40)))
    Registry(ledger.store).renew(card("w1", slots=slots))
    assert len(Queues(ledger.store).dispatch_jobs(QUEUE)) == used
    free = slots - used
    assert sum(len(submit(ledger, f"b{number}").dispatched) for number in range(slots)) == free


def test_background_job_that_lost_its_worker_goes_ahead(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1", slots=2))
    submit_background(ledger, "a1", "a2")
    assert ledger.claim("a1", "w1", "cpu")
    submit(ledger, "a3")
    ledger.requeue("a1", "w1", "drain")
    assert positions(ledger, "a1", "a2") == [2, 3]  # a3 is dispatched


def test_owner_of_background_jobs_saves_no_turns(ledger: Ledger) -> None:
    submit_background(ledger, "a0")
    for number in range(5):
        submit(ledger, f"b{number}")
    Registry(ledger.store).renew(card("w1", slots=5))
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == [f"b{number}" for number in range(5)]
    for job_id in ("a1", "a2", "b5", "b6"):
        submit(ledger, job_id)
    assert positions(ledger, "a1", "a2", "b5", "b6", "a0") == [6, 7, 8, 9, 10]


def test_dispatch_finds_flows_that_an_older_version_has_filled(ledger: Ledger) -> None:
    """An older version changes flows and start tags, and does not know of the indexes."""
    submit(ledger, "a1")
    for job_id in ("b1", "b2", "c1"):
        submit(ledger, job_id)
    for index in ("ready", "lengths"):
        ledger.store.client.delete(ledger.store.key("queue", QUEUE, index))
    ledger.store.client.hincrby(ledger.store.key("queue", QUEUE, "fair"), "version", 1)
    assert order(ledger) == ["a1", "b1", "c1", "b2"]
    assert not list(index_flaws(ledger))


def test_recovery_finds_flows_and_workers_that_an_older_version_has_changed(ledger: Ledger) -> None:
    """The counters of changes agree, as they do after a downgrade and another upgrade."""
    for job_id in ("a1", "b1", "b2"):
        submit(ledger, job_id)
    for index in (
        ("queue", QUEUE, "ready"),
        ("queue", QUEUE, "lengths"),
        ("worker", "room"),
        ("queues", "room"),
    ):
        ledger.store.client.delete(ledger.store.key(*index))
    ledger.store.client.hset(ledger.store.key("worker", "cards"), "old", to_json(card("old", slots=3)))
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == []
    broadcast(ledger)
    assert not list(index_flaws(ledger))
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == ["a1", "b1", "b2"]
    ledger.store.client.hdel(ledger.store.key("worker", "cards"), "old")
    assert Queues(ledger.store).info(QUEUE).slots == 0


def test_free_slots_follow_the_jobs_of_an_older_worker(ledger: Ledger) -> None:
    """A worker of an older version claims and ends jobs without changing the number of its free slots."""
    Registry(ledger.store).renew(card("w1", slots=2))
    ledger.store.client.sadd(ledger.store.key("worker", "w1", "jobs"), "x1", "x2")
    broadcast(ledger)
    assert submit(ledger, "a1").dispatched == []
    ledger.store.client.delete(ledger.store.key("worker", "w1", "jobs"))
    broadcast(ledger)
    assert Queues(ledger.store).dispatch_jobs(QUEUE) == ["a1"]


def test_many_jobs_are_dispatched_by_several_scripts(ledger: Ledger) -> None:
    jobs = [f"{owner}{number:03}" for number in range(50) for owner in "abc"]
    for job_id in jobs:
        submit(ledger, job_id)
    assert order(ledger) == jobs


def test_owners_at_their_cap_are_looked_at_once(ledger: Ledger) -> None:
    """A dispatch costs no more because many owners are at their cap, and their jobs follow when one ends."""
    Registry(ledger.store).renew(card("w1", slots=1000))
    for number in range(150):
        owner = f"capped{number:03}"
        ledger.store.client.hset(ledger.store.key("key", owner), "max_running", 1)
        for part in "ab":
            spec = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
            ledger.submit(f"{owner}{part}", QUEUE, spec, owner)
    Queues(ledger.store).dispatch_jobs(QUEUE)
    assert ledger.store.client.zcard(ledger.store.key("queue", QUEUE, "ready")) == 0
    assert submit(ledger, "z1").dispatched == ["z1"]
    assert ledger.claim("capped007a", "w1", "cpu")
    assert ledger.append([append_of(ledger, "capped007a", 3, [Canceled()])]).dispatched == [
        (QUEUE, ["capped007b"])
    ]


def test_position_among_many_owners_is_exact_for_first_jobs(ledger: Ledger) -> None:
    """Positions of later jobs are estimates. They rise in each flow."""
    spec = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
    sizes = {f"owner{number:03}": 1 + number * 7 % 12 for number in range(150)}
    for owner, size in sizes.items():
        for number in range(size):
            ledger.submit(f"{owner}-{number}", QUEUE, spec, owner)
    for number, (owner, size) in enumerate(sizes.items()):
        mine = positions(ledger, *(f"{owner}-{index}" for index in range(size)))
        assert mine[0] == number + 1
        assert all(early and late and early < late for early, late in pairwise(mine))
    total = sum(sizes.values())
    wrong = []
    for place, job_id in enumerate(order_of(sizes), 1):
        wrong.append(abs(place - (positions(ledger, job_id)[0] or 0)))
    assert max(wrong) < len(sizes) / 2
    assert sum(wrong) / total < len(sizes) / 10


def order_of(sizes: Mapping[str, int]) -> Sequence[str]:
    """Return the jobs of flows of these sizes in their order: one of each flow after the other."""
    jobs = [(number, owner) for owner, size in sizes.items() for number in range(size)]
    return [f"{owner}-{number}" for number, owner in sorted(jobs)]


def scheduler_state(ledger: Ledger) -> dict[str, Any]:
    """Return what decides about the next jobs of the queue, without times and versions."""
    redis, key = ledger.store.client, partial(ledger.store.key, "queue", QUEUE)
    tags = cast("dict[str, str]", redis.hgetall(key("fair")))
    return {
        "tags": {name: tags[name] for name in tags if name == "now" or name.startswith("last:")},
        "flows": redis.zrange(key("turns"), 0, -1, withscores=True),
        "waiting": redis.zrange(key("waiting"), 0, -1, withscores=True),
        "dispatched": redis.zrange(key("called"), 0, -1),
        "active": {owner: redis.smembers(ledger.store.key("owner", owner, "active")) for owner in "ab"},
        "lengths": redis.hgetall(ledger.store.key("lengths")),
        "positions": positions(ledger, "a1", "b1", "a2"),
    }


def test_job_that_finds_a_free_slot_is_dispatched_as_from_its_flow(settings: Settings) -> None:
    states = []
    for at_once in (True, False):
        ledger = Ledger(RedisStore(settings.replace(prefix=f"{settings.prefix}-{at_once}")))
        for job_id, n, taken in (("a1", 2, 0), ("b1", 1, 2), ("a2", 1, 3)):
            Registry(ledger.store).renew(card("w1", slots=100 if at_once else taken))
            found = submit(ledger, job_id, n=n).dispatched
            Registry(ledger.store).renew(card("w1", slots=100))
            assert (found or Queues(ledger.store).dispatch_jobs(QUEUE)) == [job_id]
            assert bool(found) == at_once
        states.append(str(scheduler_state(ledger)).replace(f"-{at_once}:", ":"))
        ledger.store.close()
    assert states[0] == states[1]


def test_job_of_an_owner_at_its_cap_is_not_dispatched_at_once(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1"))
    ledger.store.client.hset(ledger.store.key("key", "a"), "max_running", 1)
    assert [submit(ledger, job_id).dispatched for job_id in ("a1", "a2", "b1")] == [["a1"], [], ["b1"]]
