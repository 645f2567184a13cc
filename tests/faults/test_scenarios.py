"""One fault at a time, in a cluster whose chats do what their prompt says."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.faults.cluster import Cluster, Kept
from tests.support.assets import asset
from tests.support.event_checks import check_log
from tests.support.stack import eventually, main_event_types
from tests.support.stand_ins import LONG
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LEASE_S, SLOTS = 2.0, 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("unruly")
    (home / "models").symlink_to(asset("selfie_segmentation.tflite").parent)
    settings = Settings(home=home, lease_ttl_s=LEASE_S, drain_s=0.5, slots=SLOTS, chat_model="unruly")
    with Cluster(settings, "tests.support.workers.unruly") as cluster:
        yield cluster
    assert not cluster.ends


@pytest.fixture(autouse=True)
def all_warm(cluster: Cluster) -> None:
    """Every test begins with all workers."""
    workers = cluster.workers.values()  # whose processes may be new ones meanwhile

    def warm() -> bool:
        return {c.pid for c in cards(cluster) if c.state == "ready"} >= {kept.pid for kept in workers}

    eventually(warm, "all workers, warm")


def cards(cluster: Cluster) -> Any:
    return Registry(cluster.ledger).workers()


def submit(cluster: Cluster, word: str, **options: Any) -> str:
    body = {"messages": [{"role": "user", "content": word}], "max_tokens": 1000, **options}
    response = httpx.post(f"{cluster.settings.url}/v1/jobs/chat", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def types(cluster: Cluster, job_id: str) -> list[str]:
    return main_event_types(event.type for event in cluster.ledger.events(job_id))


def wait_for(cluster: Cluster, job_id: str, kind: str, count: int = 1) -> None:
    events = cluster.ledger.events
    eventually(lambda: [e.type for e in events(job_id)].count(kind) >= count, f"{kind} of {job_id}")


def error(cluster: Cluster, job_id: str) -> str:
    return (cluster.ledger.get(job_id).error or {}).get("code", "")


def kept(cluster: Cluster, job_id: str) -> Kept:
    """The worker that runs the job."""
    name = cluster.ledger.get(job_id).worker
    pid = next(card.pid for card in cards(cluster) if card.name == name)
    return next(kept for kept in cluster.workers.values() if kept.pid == pid)


def assert_whole(cluster: Cluster, job_id: str) -> None:
    """It succeeded, every word came once, and no event came from an attempt that was over."""
    events = [event.data for event in cluster.ledger.events(job_id)]
    assert list(check_log(events)) == []
    said = "".join(event["text"] for event in events if event["type"] == "token")
    assert said == "".join(f" {number}" for number in range(LONG))
    usage = cluster.ledger.get(job_id).usage
    assert usage == {"prompt_tokens": 1, "completion_tokens": LONG + 1, "total_tokens": LONG + 2}


def test_a_frozen_worker_drops_what_it_has_lost_and_serves_again(cluster: Cluster) -> None:
    job_id = submit(cluster, "long")
    wait_for(cluster, job_id, "token")
    frozen = kept(cluster, job_id)
    frozen.signal(signal.SIGSTOP)
    wait_for(cluster, job_id, "started", 2)
    wait_for(cluster, job_id, "token", 20)
    frozen.signal(signal.SIGCONT)
    wait_for(cluster, job_id, "succeeded")
    assert_whole(cluster, job_id)
    assert types(cluster, job_id) == ["queued", "started", "requeued", "started", "succeeded"]
    crowd = [submit(cluster, "long") for _ in range(2 * SLOTS)]  # more than the other one takes
    for job_id in crowd:
        wait_for(cluster, job_id, "started")
    assert frozen in [kept(cluster, job_id) for job_id in crowd]
    for job_id in crowd:
        wait_for(cluster, job_id, "succeeded")
        assert_whole(cluster, job_id)


def test_a_job_that_kills_its_worker_fails_and_takes_no_other_with_it(cluster: Cluster) -> None:
    poison = submit(cluster, "kill")
    others = [submit(cluster, "long") for _ in range(2 * SLOTS - 1)]
    wait_for(cluster, poison, "failed")
    assert error(cluster, poison) == "worker_lost"
    assert types(cluster, poison) == ["queued", *["started", "requeued"] * 2, "started", "failed"]
    for job_id in others:
        wait_for(cluster, job_id, "succeeded")
        assert_whole(cluster, job_id)


def test_a_broken_engine_ends_its_worker_and_another_goes_on(cluster: Cluster) -> None:
    other = submit(cluster, "long")
    wait_for(cluster, other, "token")
    breaking = [submit(cluster, "break", timeout_s=10) for _ in range(2)]  # the engine is not asked twice
    wait_for(cluster, other, "succeeded")
    assert_whole(cluster, other)
    for job_id in breaking:
        wait_for(cluster, job_id, "failed")
    codes = [code for worker in cluster.workers.values() for code in worker.codes]
    assert 1 in codes


def test_a_job_that_hangs_in_the_engine_can_be_canceled(cluster: Cluster) -> None:
    job_id = submit(cluster, "hang")
    wait_for(cluster, job_id, "started")
    httpx.post(f"{cluster.settings.url}/v1/jobs/{job_id}/cancel").raise_for_status()
    wait_for(cluster, job_id, "canceled")
    eventually(lambda: not any(card.running for card in cards(cluster)), "its slot")


def test_a_job_that_takes_too_long_fails(cluster: Cluster) -> None:
    job_id = submit(cluster, "hang", timeout_s=1)
    wait_for(cluster, job_id, "failed")
    assert error(cluster, job_id) == "timeout"
    eventually(lambda: not any(card.running for card in cards(cluster)), "its slot")


def test_a_job_that_waits_too_long_never_starts(cluster: Cluster) -> None:
    crowd = [submit(cluster, "hang") for _ in range(2 * SLOTS)]
    for job_id in crowd:
        wait_for(cluster, job_id, "started")
    late = submit(cluster, "long", max_queue_s=1)
    wait_for(cluster, late, "failed")
    assert (error(cluster, late), types(cluster, late)) == ("expired", ["queued", "failed"])
    for job_id in crowd:
        cluster.ledger.cancel(job_id)
    for job_id in crowd:
        wait_for(cluster, job_id, "canceled")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_what_is_not_done_in_time_goes_on_elsewhere_at_once(cluster: Cluster, number: signal.Signals) -> None:
    job_id = submit(cluster, "long")
    wait_for(cluster, job_id, "token")
    worker = kept(cluster, job_id)
    ends = len(worker.codes)
    os.kill(worker.pid, number)
    wait_for(cluster, job_id, "started", 2)
    assert kept(cluster, job_id) != worker
    wait_for(cluster, job_id, "succeeded")
    assert_whole(cluster, job_id)
    reasons = [e.data["reason"] for e in cluster.ledger.events(job_id) if e.type == "requeued"]
    assert reasons == ["drain"]
    eventually(lambda: len(worker.codes) > ends, "the worker's end")
    assert worker.codes[-1] == 0


@pytest.mark.parametrize(
    "away_s", [0.5, 3 * LEASE_S, pytest.param(60.0, marks=pytest.mark.long)], ids=["blink", "long", "60 s"]
)
def test_redis_goes_away_and_nothing_runs_twice(cluster: Cluster, away_s: float) -> None:
    crowd = [submit(cluster, "long") for _ in range(2 * SLOTS + 4)]
    running = crowd[: 2 * SLOTS]
    for job_id in running:
        wait_for(cluster, job_id, "token")
    gone, ends, cluster.redis.again_s = cluster.redis.pid, len(cluster.redis.codes), away_s
    cluster.redis.signal(signal.SIGTERM)
    eventually(lambda: len(cluster.redis.codes) > ends, "the end of Redis")
    if away_s > LEASE_S:
        body = {"messages": [{"role": "user", "content": "long"}]}
        refused = httpx.post(f"{cluster.settings.url}/v1/jobs/chat", json=body, timeout=30)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    eventually(lambda: cluster.redis.pid != gone and cluster.redis_answers(), "Redis again", 2 * away_s + 30)
    cluster.redis.again_s = 0.2
    for job_id in crowd:
        wait_for(cluster, job_id, "succeeded")
        assert_whole(cluster, job_id)
        assert types(cluster, job_id) == ["queued", "started", "succeeded"]
