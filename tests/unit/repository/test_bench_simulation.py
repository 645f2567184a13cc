"""Tests of `bench.simulation`, against formulas of queueing theory and against what Stoker does."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from simpy import Environment, Event

from bench.simulation.arrivals import Chat, arrivals
from bench.simulation.background import Background, places_told
from bench.simulation.costs import Costs, Linear
from bench.simulation.engine import Engine, Lost
from bench.simulation.figures import Figures
from bench.simulation.installation import Installation
from bench.simulation.plan import Plan, Speed
from bench.simulation.server import Server
from bench.simulation.turns import Turns

#: Steps of a tenth of a second, whatever the number of chats.
STEADY = Speed([1], [0.1])
#: Three workers of four slots, and no cost of anything but the engines' steps.
SMALL = Plan(
    gpus=3, slots=4, models=(1.0,), speed=STEADY, api_processes=1, peak_factor=1.0, bursts=0, keys=5,
    lengths="exponential", deaths_per_day=0.0, round_trip_s=0.0, tokens_out=100.0, seconds=1e4,
)  # fmt: skip
FREE = Costs()


def busy(plan: Plan, share: float) -> Plan:
    """Return the plan with a load that takes this share of its slots."""
    slots = plan.gpus * plan.slots
    return replace(plan, chats_per_day=86_400 * share * slots / chat_s(plan))


def chat_s(plan: Plan) -> float:
    """Return the seconds of a chat, on average, if it does not wait."""
    return plan.tokens_out * plan.speed.step(1)


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a customer of an M/M/c queue waits (A. K. Erlang, 1917)."""
    waiting = load**servers / factorial(servers) * servers / (servers - load)
    return waiting / (sum(load**k / factorial(k) for k in range(servers)) + waiting)


def run(plan: Plan, costs: Costs = FREE, chats: Sequence[Chat] | None = None) -> Figures:
    return Installation(plan, costs).run(arrivals(plan) if chats is None else chats)


def test_queue_wait_is_that_of_erlangs_formula() -> None:
    plan = busy(SMALL, 0.8)
    found = run(plan)
    slots, load = 12, 0.8 * 12
    expected = erlang_c(slots, load) * chat_s(plan) / (slots - load)
    assert np.mean(found.waits) == pytest.approx(expected, rel=0.15)
    assert found.busy_slots == pytest.approx(0.8, rel=0.03)


def test_chats_in_the_system_follow_littles_law() -> None:
    plan = busy(SMALL, 0.7)
    found = run(plan)
    rate = len(found.stays) / plan.seconds
    assert found.level("open") == pytest.approx(rate * float(np.mean(found.stays)), rel=0.02)
    assert found.mean_chats == pytest.approx(rate * chat_s(plan), rel=0.05)


def test_same_seed_gives_same_figures_and_another_seed_others() -> None:
    plan = replace(busy(SMALL, 0.5), seconds=1e3)
    assert run(plan).waits == run(plan).waits
    assert run(plan).stays != run(replace(plan, seed=2)).stays


def test_death_of_a_worker_delays_its_chat_by_the_rest_of_its_lease() -> None:
    plan = replace(SMALL, gpus=2, slots=1, seconds=200.0, lease_s=9.0)
    installation = Installation(plan, FREE)

    def chats() -> Iterator[Chat]:
        yield Chat(1.0, 0, 0, 500)
        yield Chat(20.0, 0, 0, 1)
        queue = installation.queues[0]
        (worker,) = (each for each in queue.workers if each.engine.running)
        installation.kill(queue, worker)
        yield Chat(150.0, 0, 0, 1)

    found = installation.run(chats())
    (gap,) = found.gaps
    # A beat is at most a third of a lease ago, and recovery looks each second. Then comes a step.
    assert 6.0 + 0.1 <= gap <= 9.0 + 1.0 + 0.1
    assert len(found.stays) == 3
    assert max(found.stays) >= 50 + gap - 0.1


def test_engine_shares_its_steps_between_chats() -> None:
    env = Environment()
    engine = Engine(env, [0.0, 1.0, 1.5])
    ends = {}

    def chat(name: str, begin: float, tokens: float) -> Generator[Event]:
        yield env.timeout(begin)
        yield engine.join(tokens)
        ends[name] = env.now

    env.process(chat("long", 0.0, 10))
    env.process(chat("short", 4.0, 2))
    env.run()
    # 4 tokens alone in 4 s, 2 together in 3 s, and 4 alone in 4 s.
    assert ends == {"short": pytest.approx(7.0), "long": pytest.approx(11.0)}
    assert engine.busy_s == pytest.approx(11.0)
    assert engine.chat_s == pytest.approx(14.0)


def test_engine_that_dies_returns_the_tokens_that_are_left() -> None:
    env = Environment()
    engine = Engine(env, [0.0, 1.0])
    ended = engine.join(10)
    env.run(until=4.0)
    engine.die(lapses_at=20.0)
    lost = env.run(ended)
    assert isinstance(lost, Lost)
    assert (lost.tokens, lost.lapses_at) == pytest.approx((6.0, 20.0))


def test_server_takes_one_operation_at_a_time_and_counts_them() -> None:
    env = Environment()
    server = Server(env)
    assert [server.serve("a", 1.0), server.serve("b", 2.0)] == [1.0, 3.0]
    env.run(until=10.0)
    server.load = 0.5
    assert server.serve("a", 1.0) == 2.0
    assert (server.cpu_s["a"], server.round_trips["a"], server.total_s) == (2.0, 2, 4.0)


def test_turns_go_round_the_keys_and_a_returned_job_is_next_of_its_key() -> None:
    turns: Turns[str] = Turns()
    for key, job in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2")]:
        turns.put(key, job)
    assert [turns.take() for _ in range(3)] == ["a1", "b1", "a2"]
    turns.put_back(1, "a2")
    turns.put(3, "c1")
    assert [turns.take() for _ in range(len(turns))] == ["a2", "b2", "c1", "a3"]


def test_redis_time_is_the_sum_of_its_operations() -> None:
    costs = Costs(
        submit=Linear(1e-3, 1e-4), message=2e-3, claim=3e-3, end=Linear(4e-3), forget=5e-3, stream=6e-3
    )
    chats = [Chat(10.0 * number, 0, 0, 5) for number in range(20)]
    found = run(replace(SMALL, seconds=1000.0), costs, chats)
    each = {
        "submits": 1e-3 + 3e-4,
        "messages": 2e-3,
        "claims": 3e-3,
        "ends": 4e-3,
        "deletions": 5e-3,
        "streams": 6e-3,
    }
    spent = {name: cpu_s for name, cpu_s in found.redis.cpu_s.items() if cpu_s}
    assert spent == pytest.approx({name: 20 * cpu_s for name, cpu_s in each.items()})
    assert found.redis.total_s == pytest.approx(20 * sum(each.values()))


def test_busy_redis_gets_fewer_appends_with_more_tokens() -> None:
    plan = replace(SMALL, slots=64, speed=Speed([1], [0.002]))
    background = Background(plan, Costs(append=Linear(1e-4, 1e-5), worker_event=1e-5))
    assert background.flush(64, load=0.0).every_s == pytest.approx(0.64e-3 + 0.74e-3 + 12 * 0.64e-3)
    assert background.flush(64, load=0.95).every_s == pytest.approx(2 * (0.64e-3 + 20 * 0.74e-3))
    assert background.flush(1, load=0.0).every_s == pytest.approx(0.002, rel=0.3)


def test_workers_leave_redis_time_for_others_by_rarer_appends() -> None:
    plan = replace(SMALL, slots=4, speed=Speed([1], [0.002]))
    background = Background(plan, Costs(append=Linear(1e-4, 0.0), worker_event=1e-5))
    few, many = ({1: workers} for workers in (2, 200))
    assert background.balance(few, others=0.1) == pytest.approx(0.1 + 2 * 1e-4 / 0.002, abs=0.01)
    load = background.balance(many, others=0.1)
    assert 0.95 < load < 1.0
    appends, _ = background.appends(many, load)
    assert 0.1 + appends.share == pytest.approx(load, abs=0.02)


def test_places_told_do_not_grow_with_a_long_queue() -> None:
    assert places_told(10, starts_s=5.0) == 10
    assert places_told(1000, 5.0) == places_told(100_000, 5.0)
    exact = sum(min(1.0, 20 * 2.0 / place) for place in range(1, 1001))
    assert places_told(1000, 2.0) == pytest.approx(exact, rel=0.02)


def test_arrivals_have_the_days_number_the_peak_and_the_mean_length() -> None:
    plan = Plan(chats_per_day=200_000, peak_factor=2.5, bursts=0)
    chats = list(arrivals(plan))
    hours = np.bincount([int(chat.at // 3600) for chat in chats], minlength=24)
    assert len(chats) == pytest.approx(200_000, rel=0.02)
    assert hours.max() == pytest.approx(2.5 * 200_000 / 24, rel=0.05)
    assert hours[14:16].sum() == hours.reshape(12, 2).sum(axis=1).max()
    assert np.mean([chat.tokens for chat in chats]) == pytest.approx(plan.tokens_out, rel=0.03)
    assert np.mean([chat.model == 0 for chat in chats]) == pytest.approx(0.6, abs=0.01)


def test_workers_of_models_add_up_to_the_gpus() -> None:
    assert Plan(gpus=1000, models=(0.6, 0.3, 0.1)).workers == [600, 300, 100]
    assert sum(Plan(gpus=7, models=(1.0, 1.0, 1.0)).workers) == 7


def test_costs_are_stored_and_loaded(tmp_path: Path) -> None:
    costs = Costs("a machine", submit=Linear(0.25, 0.5), claim=0.125)
    costs.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == costs
    assert Costs.load().machine


def test_line_goes_through_its_points_and_never_falls() -> None:
    line = Linear.through((1, 3.0), (11, 5.0))
    assert (line.at(1), line.at(11), line.at(21)) == pytest.approx((3.0, 5.0, 7.0))
    assert Linear.through((1, 3.0), (11, 2.0)).at(100) == 3.0
