"""Few join a busy engine at once; in a quiet one nobody waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.chat.admission import FEW, TOGETHER_S, Admission


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def admission() -> tuple[Admission, Clock]:
    clock = Clock()
    admission = Admission(clock)
    admission.join()
    return admission, clock


def test_beside_few_nobody_waits() -> None:
    quiet, _ = admission()
    assert [quiet.wait_s(1, running) for running in range(FEW)] == [0.0] * FEW


def test_beside_many_one_waits_for_company_but_not_for_long() -> None:
    busy, clock = admission()
    assert busy.wait_s(1, 200) == pytest.approx(TOGETHER_S)
    clock.now += TOGETHER_S / 4
    assert busy.wait_s(49, 200) == pytest.approx(TOGETHER_S * 3 / 4)
    clock.now += TOGETHER_S
    assert busy.wait_s(1, 200) == 0.0


def test_a_large_group_joins_at_once() -> None:
    busy, _ = admission()
    assert busy.wait_s(50, 200) == 0.0


def test_who_comes_after_a_quiet_time_does_not_wait() -> None:
    assert Admission(Clock()).wait_s(1, 200) == 0.0


@given(arrivals=st.lists(st.floats(0, 3 * TOGETHER_S), min_size=1), running=st.integers(0, 500))
def test_nobody_waits_longer_than_for_one_group(arrivals: list[float], running: int) -> None:
    busy, clock = admission()
    for gap in arrivals:
        clock.now += gap
        assert 0 <= busy.wait_s(1, running) <= TOGETHER_S
        if busy.wait_s(1, running) == 0:
            busy.join()
