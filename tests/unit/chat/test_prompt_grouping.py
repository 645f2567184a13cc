"""The grouping of prompts, over a scheduler of the test whose steps take given times."""

from types import SimpleNamespace
from typing import Any

import pytest

from worker.chat.vllm_engine import prompt_grouping
from worker.chat.vllm_engine.prompt_grouping import MAX_STEPS, MIN_RUNNING, PromptGrouping


class Clock:
    """A clock that the test's scheduler moves."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class TakingScheduler:
    """A scheduler that takes in all prompts that wait, unless it has to defer them."""

    def __init__(self, clock: Clock, running: int, plain_s: float, prompt_s: float) -> None:
        self.running, self.waiting = ["chat"] * running, list[str]()
        self.clock, self.plain_s, self.prompt_s = clock, plain_s, prompt_s
        #: The prompts that each step took in.
        self.taken: list[int] = []

    def schedule(self, throttle_prefills: bool = False) -> Any:
        new = 0 if throttle_prefills else len(self.waiting)
        self.waiting = self.waiting[new:]
        self.taken.append(new)
        self.clock.now += self.prompt_s if new else self.plain_s
        requests = dict.fromkeys(range(len(self.running) + new), 1)
        return SimpleNamespace(
            num_scheduled_tokens=requests, total_num_scheduled_tokens=len(requests) + 31 * new
        )


class GroupingScheduler(PromptGrouping, TakingScheduler):
    """The test's scheduler with the grouping of prompts."""


def steps_with_prompts(monkeypatch: pytest.MonkeyPatch, *, running: int, prompt_s: float) -> list[int]:
    """Return the prompts that the last 100 of 300 steps took in. A chat comes in every second step."""
    clock = Clock()
    monkeypatch.setattr(prompt_grouping, "time", clock)
    scheduler = GroupingScheduler(clock, running, 0.003, prompt_s)
    for number in range(300):
        scheduler.waiting += ["chat"] * (number % 2)
        scheduler.schedule()
    return scheduler.taken[-100:]


def test_busy_engine_groups_prompts_that_cost_a_step_much(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = steps_with_prompts(monkeypatch, running=MIN_RUNNING, prompt_s=0.009)
    assert sum(taken) in (49, 50, 51)
    # A chat waits for MAX_STEPS steps, and those that come meanwhile join with it.
    assert {count for count in taken if count} <= {2, 3}
    longest = max(len(run) for run in "".join("x" if each else "." for each in taken).split("x"))
    assert longest <= MAX_STEPS + 1


@pytest.mark.parametrize(("running", "prompt_s"), [(MIN_RUNNING, 0.006), (MIN_RUNNING - 1, 0.009)])
def test_prompts_join_at_once_if_waiting_saves_little(
    monkeypatch: pytest.MonkeyPatch, running: int, prompt_s: float
) -> None:
    taken = steps_with_prompts(monkeypatch, running=running, prompt_s=prompt_s)
    assert taken == [0, 1] * 50


def test_prompt_waits_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(prompt_grouping, "time", clock)
    scheduler = GroupingScheduler(clock, MIN_RUNNING, 0.02, 0.2)  # slow steps: one of them is long enough
    for number in range(300):
        scheduler.waiting += ["chat"] * (number % 2)
        scheduler.schedule()
    assert scheduler.taken[-100:] == [1, 0] * 50 or scheduler.taken[-100:] == [0, 1] * 50
