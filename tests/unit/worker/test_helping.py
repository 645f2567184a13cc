"""An idle worker helps others. It stops when it has a job or ends."""

import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from redis.exceptions import RedisError

from tests.support.stack import eventually
from worker.jobs.ledger.announcements import Announcements, Topic
from worker.jobs.ledger.ledger import Ledger
from worker.lane.helping import Helping
from worker.lane.lane import Lane
from worker.lane.shared_lock import SharedLock

QUEUE, PAUSE_S, LONGEST_PAUSE_S = "video.m", 0.001, 3600.0


class FakeLane:
    worker, device, is_idle = "w", "cpu", True

    def __init__(self) -> None:
        self.lock = SharedLock()
        self.not_beside_exclusive_job = self.lock.shared


class FakeRunner:
    """A runner that notes each call of `help`, and does what `act` says."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.wanted = True
        self.act: Callable[[Callable[[], bool], threading.Event], bool] = lambda go_on, stopping: False

    def is_wanted(self, queue: str) -> bool:
        return self.wanted

    def help(
        self, queue: str, worker: str, device: str, go_on: Callable[[], bool], stopping: threading.Event
    ) -> bool:
        self.calls.append((queue, worker, device))
        return self.act(go_on, stopping)


@pytest.fixture
def lane() -> FakeLane:
    return FakeLane()


@pytest.fixture
def offers(ledger: Ledger) -> Topic:
    announcements = Announcements(ledger.store)
    topic = announcements.topic("segments", QUEUE)
    announcements.start()
    return topic


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def helping(lane: FakeLane, runner: FakeRunner, offers: Topic) -> Iterator[Helping]:
    helping = Helping(cast(Lane, lane), QUEUE, runner, offers, LONGEST_PAUSE_S, PAUSE_S)
    yield helping
    helping.stop(10)


def test_idle_worker_asks_again_and_again(helping: Helping, runner: FakeRunner) -> None:
    helping.start()
    eventually(lambda: len(runner.calls) > 2, "calls")
    assert {*runner.calls} == {(QUEUE, "w", "cpu")}


def test_worker_without_wanted_help_waits_for_an_offer(
    helping: Helping, runner: FakeRunner, offers: Topic, ledger: Ledger
) -> None:
    runner.wanted = False
    helping.start()
    eventually(lambda: announce(ledger, offers), "a subscription")
    runner.wanted = True
    assert not runner.calls
    announce(ledger, offers)
    eventually(lambda: runner.calls, "a call after the offer")


def announce(ledger: Ledger, offers: Topic) -> int:
    return int(ledger.store.client.publish(offers.channel, ""))


def test_helping_survives_errors(helping: Helping, runner: FakeRunner) -> None:
    errors = iter([RedisError(), ValueError()])

    def fail(go_on: Callable[[], bool], stopping: threading.Event) -> bool:
        for error in errors:
            raise error
        return False

    runner.act = fail
    helping.start()
    eventually(lambda: len(runner.calls) > 3, "calls after the errors")


def test_busy_worker_does_not_help(helping: Helping, lane: FakeLane, runner: FakeRunner) -> None:
    seen: list[bool] = []

    def get_a_job(go_on: Callable[[], bool], stopping: threading.Event) -> bool:
        seen.append(go_on())
        lane.is_idle = False
        seen.append(go_on())
        return True

    runner.act = get_a_job
    helping.start()
    eventually(lambda: len(seen) == 2, "a job")
    assert seen == [True, False]
    helping.stop(10)
    assert len(runner.calls) == 1


def test_stop_ends_the_help(helping: Helping, runner: FakeRunner) -> None:
    began = threading.Event()

    def help_until_stopped(go_on: Callable[[], bool], stopping: threading.Event) -> bool:
        began.set()
        return stopping.wait(90)

    runner.act = help_until_stopped
    helping.start()
    assert began.wait(90)
    helping.stop(90)
    assert len(runner.calls) == 1


def test_runner_that_cannot_help_is_left_alone(lane: FakeLane, offers: Topic) -> None:
    helping = Helping(cast(Lane, lane), "chat.m", object(), offers, LONGEST_PAUSE_S, PAUSE_S)
    helping.start()
    helping.stop(0)


def test_job_that_must_run_alone_waits_for_the_help_to_end(
    helping: Helping, lane: FakeLane, runner: FakeRunner
) -> None:
    began, ended, order = threading.Event(), threading.Event(), list[str]()

    def compute_a_segment(go_on: Callable[[], bool], stopping: threading.Event) -> bool:
        began.set()
        ended.wait(90)
        order.append("helped")
        return True

    def run_alone() -> None:
        with lane.lock.exclusive():
            order.append("alone")

    runner.act = compute_a_segment
    helping.start()
    assert began.wait(90)
    job = threading.Thread(target=run_alone)
    job.start()
    job.join(0.05)
    lane.is_idle = False
    ended.set()
    job.join(90)
    assert order == ["helped", "alone"]
