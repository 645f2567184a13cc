"""Followers of new jobs, whose subscription goes to Redis before the submit."""

from collections.abc import Sequence

import pytest

from tests.support.ledger import QUEUE
from tests.support.stack import eventually
from webapi.services import follow as follow_module
from webapi.services.backend import Backend
from webapi.services.follow import follow
from worker.jobs.events import LoggedEvent
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})


@pytest.fixture
def backend(settings: Settings) -> Backend:
    return Backend.from_settings(settings)


@pytest.fixture
def reads(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of the numbers after which the log is read from now on."""
    found, events = [], backend.ledger.events

    def read(job_id: str, after: int = 0) -> Sequence[LoggedEvent]:
        found.append(after)
        return events(job_id, after)

    monkeypatch.setattr(backend.ledger, "events", read)
    return found


def test_follower_of_new_job_reads_no_log(
    backend: Backend, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "FIRST_EVENT_S", 20.0)  # however slow this machine is
    with backend.feed.join("other") as other:
        assert other.get(20) is None  # the feed is connected
        following = follow(backend, "a", 0, new=True)
        assert next(following) is None
        eventually(lambda: subscribers(backend) == 1, "the subscription")
        backend.ledger.submit("a", QUEUE, CHAT)
        backend.ledger.claim("a", "w1", "cpu")
        assert [getattr(next(following), "type", None) for _ in range(2)] == ["queued", "started"]
        assert reads == []


def test_follower_of_new_job_reads_log_if_subscription_comes_late(backend: Backend, reads: list[int]) -> None:
    following = follow(backend, "a", 0, new=True)
    backend.ledger.submit("a", QUEUE, CHAT)
    assert next(following) is None  # the feed connects only now
    assert getattr(next(following), "type", None) == "queued"
    assert reads == [0]
    backend.ledger.claim("a", "w1", "cpu")
    assert getattr(next(following), "type", None) == "started"


def test_follower_of_new_job_reads_log_after_a_gap(backend: Backend, reads: list[int]) -> None:
    following = follow(backend, "a", 0, new=True)
    assert next(following) is None
    eventually(lambda: subscribers(backend) == 1, "the subscription")
    backend.feed._deliver(backend.store.channel("a"), LoggedEvent.from_json('{"n":2,"type":"started"}'))
    backend.ledger.submit("a", QUEUE, CHAT)
    backend.ledger.claim("a", "w1", "cpu")
    assert [getattr(next(following), "type", None) for _ in range(2)] == ["queued", "started"]
    assert reads == [0]


def test_follower_that_ends_before_the_submit_leaves_no_subscription(backend: Backend) -> None:
    following = follow(backend, "a", 0, new=True)
    next(following)
    eventually(lambda: subscribers(backend) == 1, "the subscription")
    following.close()
    eventually(lambda: subscribers(backend) == 0, "the end of the subscription")


def subscribers(backend: Backend) -> int:
    """Return how many connections have subscribed to the job."""
    [(_, count)] = backend.store.client.pubsub_numsub(backend.store.channel("a"))
    return int(count)
