"""The segments of a running video: who may compute which one, whatever gets lost."""

from dataclasses import replace

import pytest

from tests.support.ledger import append_of, card, lapse
from tests.support.stack import WAIT_S
from worker.jobs.events import Canceled
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.segments import HelpWanted, SegmentPlan, Segments, Taken
from worker.jobs.specs import VideoJob, validate

QUEUE = "video.test"
PLAN = SegmentPlan("the plan", 4)
CLAIM = "claim-1"


class Video:
    """A running video with the worker `owner`, beside the workers `h1` and `h2`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.segments = ledger, Segments(ledger.store)
        for worker in ("owner", "h1", "h2"):
            Registry(ledger.store).renew(replace(card(worker, slots=1), kind="video", queue=QUEUE))
        ledger.submit("v", QUEUE, validate(VideoJob, {}))
        ledger.claim("v", "owner", "cpu", claim=CLAIM)

    def take(self, *held: int, first: int = 0, steal: bool = False, claim: str = CLAIM) -> Taken | None:
        return self.segments.take("v", claim, "owner", PLAN, first=first, held=held, steal=steal)

    def help(self, worker: str, *held: int) -> int | None:
        wanted = self.segments.help(QUEUE, worker, "v" if held else "", held)
        return wanted.number if wanted else None

    def finish(self, worker: str, number: int) -> bool:
        return self.segments.finish("v", CLAIM, worker, number)

    def keys(self) -> list[str]:
        redis, key = self.ledger.store.client, self.ledger.store.key
        return [name for part in ("job:*:segments", "queue:*:offered") for name in redis.scan_iter(key(part))]


@pytest.fixture
def video(ledger: Ledger) -> Video:
    return Video(ledger)


def test_segments_go_to_owner_and_helpers_in_order(video: Video) -> None:
    assert video.segments.help(QUEUE, "h1") is None
    assert not video.segments.are_offered(QUEUE)
    assert video.take() == Taken(0, [])
    assert video.segments.are_offered(QUEUE)
    assert video.segments.help(QUEUE, "h1") == HelpWanted("v", CLAIM, 1, "the plan")
    assert video.help("h2") == 2
    assert video.take(0) == Taken(3, [])
    assert video.help("h1", 1) is None
    assert video.finish("h1", 1)
    assert video.finish("owner", 0)
    assert video.take(3) == Taken(None, [0, 1])
    assert video.take(3, first=2) == Taken(None, [])


def test_first_segment_of_the_owner_announces_the_offer(video: Video) -> None:
    with video.ledger.store.client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(video.ledger.store.key("announce", "segments", QUEUE))
        assert pubsub.get_message(timeout=WAIT_S)["type"] == "subscribe"
        video.take()
        assert pubsub.get_message(timeout=WAIT_S)["type"] == "message"
        video.take(0)
        assert pubsub.get_message(timeout=0) is None


def test_owner_does_not_get_reported_segment_again(video: Video) -> None:
    video.take()
    assert video.take(0) == Taken(1, [])
    assert video.take(first=2) == video.take(first=2) == Taken(2, [])
    assert video.take(2, first=2) == Taken(3, [])


def test_repeated_requests_change_nothing(video: Video) -> None:
    assert video.take() == video.take() == Taken(0, [])
    assert video.help("h1") == video.help("h1") == 1
    assert video.help("h1", 1) == video.help("h1", 1) == 2
    assert video.finish("h1", 1)
    assert video.finish("h1", 1)
    for _ in range(2):
        video.segments.release("v", CLAIM, "h1", 2)
        assert video.take(0) == Taken(2, [1])


def test_owner_takes_segment_of_worker_whose_lease_has_ended(video: Video) -> None:
    video.take()
    video.help("h1")
    video.help("h2")
    lapse(video.ledger, "h1")
    assert video.take(0) == Taken(1, [])
    assert not video.finish("h1", 1)
    assert video.help("h1") is None


def test_owner_steals_only_if_no_segment_is_free(video: Video) -> None:
    video.take()
    video.help("h1")
    video.help("h2")
    assert video.take(0, steal=True) == Taken(3, [])
    assert video.take(0, 3) == Taken(None, [])
    assert video.take(0, 3, steal=True) == Taken(1, [])


def test_released_segment_is_free_again(video: Video) -> None:
    video.take()
    assert video.help("h1") == 1
    video.segments.release("v", CLAIM, "h2", 1)
    assert video.help("h2") == 2
    video.segments.release("v", CLAIM, "h1", 1)
    assert video.take(0) == Taken(1, [])


def test_offer_that_redis_has_lost_is_made_again(video: Video) -> None:
    video.take()
    video.help("h1")
    video.ledger.store.client.delete(*video.keys())
    assert video.segments.take("v", CLAIM, "owner", PLAN, held=[0, 1]) == Taken(2, [])
    assert video.help("h1") == 3


def test_nobody_helps_while_a_job_waits(video: Video) -> None:
    video.take()
    video.ledger.submit("w", QUEUE, validate(VideoJob, {}))
    assert video.help("h1") is None
    video.ledger.claim("w", "h1", "cpu")
    assert video.help("h2") == 1


def test_nobody_helps_in_paused_queue(video: Video) -> None:
    video.take()
    Queues(video.ledger.store).pause(QUEUE)
    assert video.help("h1") is None
    Queues(video.ledger.store).resume(QUEUE)
    assert video.help("h1") == 1


def test_nobody_helps_with_canceled_or_refused_job_or_its_own(video: Video) -> None:
    video.take()
    assert video.segments.help(QUEUE, "h1", refused=["v"]) is None
    assert video.segments.help(QUEUE, "owner") is None
    video.ledger.cancel("v")
    assert video.help("h1") is None


def test_offer_ends_with_the_attempt(video: Video) -> None:
    video.take()
    video.ledger.requeue("v", "owner", "drain")
    assert not video.keys()
    assert video.take() is None
    assert not video.keys()
    video.ledger.claim("v", "h2", "cpu", claim="claim-2")
    assert video.take() is None
    assert video.segments.take("v", "claim-2", "h2", PLAN) == Taken(0, [])
    assert not video.segments.finish("v", CLAIM, "h2", 0)
    assert video.segments.help(QUEUE, "h1") == HelpWanted("v", "claim-2", 1, "the plan")


def test_offer_ends_with_the_job(video: Video) -> None:
    video.take()
    video.help("h1")
    video.ledger.append([append_of(video.ledger, "v", 3, [Canceled()])])
    assert not video.keys()
    assert not video.finish("h1", 1)
    video.segments.release("v", CLAIM, "h1", 1)
    assert not video.keys()


def test_job_that_redis_has_lost_is_not_offered_any_more(video: Video) -> None:
    video.take()
    video.ledger.store.client.delete(f"{video.ledger.store.channel('v')}:record")
    assert video.help("h1") is None
    assert not video.keys()


def test_job_on_its_last_attempt_gets_no_help(video: Video) -> None:
    """It may kill the helper, and a job that the helper has claimed meanwhile."""
    for claim in ("claim-2", "claim-3"):
        assert video.ledger.requeue("v", "owner", "worker_lost")
        video.ledger.claim("v", "owner", "cpu", claim=claim, exclusive=True)
        assert video.take(claim=claim) == Taken(0, [])
        assert video.help("h1") == (1 if claim == "claim-2" else None)
    assert video.take(0, claim="claim-3") == Taken(1, [])
