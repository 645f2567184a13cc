"""The watch over leases, with a clock of the test."""

import pytest

from tests.support.clocks import StillClock
from worker.jobs.dispatch.lease_watch import LeaseWatch


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def watch(clock: StillClock) -> LeaseWatch:
    return LeaseWatch(lease_s=10, clock=clock)


def look(watch: LeaseWatch, clock: StillClock, seconds: int, **ends: float) -> list[str]:
    """Let the seconds pass, with a look at unchanged leases in each, and return the lost workers."""
    for _ in range(seconds):
        clock.now += 1
        watch.note({worker: (end, 10.0) for worker, end in ends.items()}, 3)
    return list(watch.lost())


def test_worker_is_lost_a_lease_after_its_last_renewal(watch: LeaseWatch, clock: StillClock) -> None:
    assert look(watch, clock, 5, w1=5) == []
    assert look(watch, clock, 10, w1=6) == []
    assert look(watch, clock, 1, w1=6) == ["w1"]
    assert watch.lost() == {"w1": 6}


def test_worker_that_gave_its_lease_up_is_lost_at_once(watch: LeaseWatch, clock: StillClock) -> None:
    assert look(watch, clock, 1, w1=0, w2=5) == ["w1"]


@pytest.mark.parametrize("jump", [-600, 600])
def test_renewal_counts_whatever_its_time(watch: LeaseWatch, clock: StillClock, jump: int) -> None:
    look(watch, clock, 5, renews=1000, killed=1000)
    assert look(watch, clock, 6, renews=1000 + jump, killed=1000) == ["killed"]


@pytest.mark.parametrize("failed", [True, False])
def test_break_gives_workers_a_whole_lease_again(watch: LeaseWatch, clock: StillClock, failed: bool) -> None:
    look(watch, clock, 9, w1=5)
    if failed:
        watch.note_failure()
    else:
        clock.now += 4
    assert look(watch, clock, 10, w1=5) == []
    assert look(watch, clock, 1, w1=5) == ["w1"]


def test_worker_with_longer_leases_gets_their_time(watch: LeaseWatch, clock: StillClock) -> None:
    watch.note({"w1": (5, 30.0)}, 3)
    clock.now += 1
    watch.note({"w1": (6, 30.0)}, 3)
    assert look(watch, clock, 29, w1=6) == []
    assert look(watch, clock, 1, w1=6) == ["w1"]
