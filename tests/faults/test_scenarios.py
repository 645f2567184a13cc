"""Tests with one fault at a time, in a cluster whose chats do what their prompts say."""

import os
import signal
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
import redis

from tests.support.assets import asset
from tests.support.cluster import RESTART_DELAY_S, Cluster, ManagedProcess
from tests.support.event_checks import check_log
from tests.support.metric_checks import metric_flaws
from tests.support.stack import eventually, main_event_types
from tests.support.stand_ins import LONG
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
    assert not cluster.stop_errors


@pytest.fixture(autouse=True)
def all_ready(cluster: Cluster) -> None:
    """Wait for all workers before every test."""
    cluster.wait_for_workers()


def submit(cluster: Cluster, word: str, **options: Any) -> str:
    body = {"messages": [{"role": "user", "content": word}], "max_tokens": 1000, **options}
    response = httpx.post(f"{cluster.settings.url}/v1/jobs/chat", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def types(cluster: Cluster, job_id: str) -> list[str]:
    return main_event_types(event.type for event in cluster.ledger.events(job_id))


def wait_for(cluster: Cluster, job_id: str, kind: str, count: int = 1) -> None:
    def seen() -> bool:
        try:
            return [event.type for event in cluster.ledger.events(job_id)].count(kind) >= count
        except redis.RedisError:  # a busy disk makes the server pause: it syncs each write
            return False

    eventually(seen, f"{kind} of {job_id}")


def error(cluster: Cluster, job_id: str) -> str:
    return (cluster.ledger.get(job_id).error or {}).get("code", "")


def worker_of(cluster: Cluster, job_id: str) -> ManagedProcess:
    """Return the worker that runs the job."""
    name = cluster.ledger.get(job_id).worker
    pid = next(card.pid for card in cluster.cards() if card.name == name)
    return next(worker for worker in cluster.workers.values() if worker.pid == pid)


def assert_complete(cluster: Cluster, job_id: str) -> None:
    """Assert that the `long` job succeeded, with every word once and no event of a stale attempt."""
    events = [event.data for event in cluster.ledger.events(job_id)]
    assert list(check_log(events)) == []
    text = "".join(event["text"] for event in events if event["type"] == "token")
    assert text == "".join(f" {number}" for number in range(LONG))
    usage = cluster.ledger.get(job_id).usage or {}
    counts = [usage[f"{name}_tokens"] for name in ("prompt", "completion", "total")]
    assert counts == [1, LONG + 1, LONG + 2]


def assert_metrics_fit_logs(cluster: Cluster) -> None:
    """Assert that the metrics are what the logs of all jobs say. All of them must have ended."""
    ledger = cluster.ledger
    job_ids = cast("list[str]", ledger.store.client.zrange(ledger.store.key("jobs"), 0, -1))
    logs = {job_id: [event.data for event in ledger.events(job_id)] for job_id in job_ids}
    assert metric_flaws(ledger, logs) == []


def test_frozen_worker_drops_lost_jobs_and_serves_again(cluster: Cluster) -> None:
    job_id = submit(cluster, "long")
    wait_for(cluster, job_id, "token")
    frozen = worker_of(cluster, job_id)
    frozen.signal(signal.SIGSTOP)
    wait_for(cluster, job_id, "started", 2)
    wait_for(cluster, job_id, "token", 20)
    frozen.signal(signal.SIGCONT)
    wait_for(cluster, job_id, "succeeded")
    assert_complete(cluster, job_id)
    assert types(cluster, job_id) == ["queued", "started", "requeued", "started", "succeeded"]
    jobs = [submit(cluster, "long") for _ in range(2 * SLOTS)]  # more than the other worker has slots
    for job_id in jobs:
        wait_for(cluster, job_id, "started")
    assert frozen in [worker_of(cluster, job_id) for job_id in jobs]
    for job_id in jobs:
        wait_for(cluster, job_id, "succeeded")
        assert_complete(cluster, job_id)
    assert_metrics_fit_logs(cluster)


def test_job_that_kills_workers_fails_alone(cluster: Cluster) -> None:
    poison = submit(cluster, "kill")
    others = [submit(cluster, "long") for _ in range(2 * SLOTS - 1)]
    wait_for(cluster, poison, "failed")
    assert error(cluster, poison) == "worker_lost"
    assert types(cluster, poison) == ["queued", *["started", "requeued"] * 2, "started", "failed"]
    for job_id in others:
        wait_for(cluster, job_id, "succeeded")
        assert_complete(cluster, job_id)
    assert_metrics_fit_logs(cluster)


@pytest.mark.long
def test_broken_engine_ends_worker_and_jobs_continue(cluster: Cluster) -> None:
    other = submit(cluster, "long")
    wait_for(cluster, other, "token")
    breaking = [
        submit(cluster, "break", timeout_s=10) for _ in range(2)
    ]  # a broken engine gets no other request
    wait_for(cluster, other, "succeeded")
    assert_complete(cluster, other)
    for job_id in breaking:
        wait_for(cluster, job_id, "failed")
    codes = [code for worker in cluster.workers.values() for code in worker.exit_codes]
    assert 1 in codes


def test_cancel_ends_job_that_hangs_in_engine(cluster: Cluster) -> None:
    job_id = submit(cluster, "hang")
    wait_for(cluster, job_id, "started")
    httpx.post(f"{cluster.settings.url}/v1/jobs/{job_id}/cancel").raise_for_status()
    wait_for(cluster, job_id, "canceled")
    eventually(lambda: not any(card.running for card in cluster.cards()), "its slot")


def test_timeout_ends_job_that_hangs_in_engine(cluster: Cluster) -> None:
    job_id = submit(cluster, "hang", timeout_s=1)
    wait_for(cluster, job_id, "failed")
    assert error(cluster, job_id) == "timeout"
    eventually(lambda: not any(card.running for card in cluster.cards()), "its slot")


def test_max_queue_s_fails_waiting_job(cluster: Cluster) -> None:
    jobs = [submit(cluster, "hang") for _ in range(2 * SLOTS)]
    for job_id in jobs:
        wait_for(cluster, job_id, "started")
    late = submit(cluster, "long", max_queue_s=1)
    wait_for(cluster, late, "failed")
    assert (error(cluster, late), types(cluster, late)) == ("expired", ["queued", "failed"])
    for job_id in jobs:
        cluster.ledger.cancel(job_id)
    for job_id in jobs:
        wait_for(cluster, job_id, "canceled")
    assert_metrics_fit_logs(cluster)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_drain_hands_over_unfinished_job(cluster: Cluster, number: signal.Signals) -> None:
    job_id = submit(cluster, "long")
    wait_for(cluster, job_id, "token")
    worker = worker_of(cluster, job_id)
    exits = len(worker.exit_codes)
    os.kill(worker.pid, number)
    wait_for(cluster, job_id, "started", 2)
    assert worker_of(cluster, job_id) != worker
    wait_for(cluster, job_id, "succeeded")
    assert_complete(cluster, job_id)
    reasons = [e.data["reason"] for e in cluster.ledger.events(job_id) if e.type == "requeued"]
    assert reasons == ["drain"]
    eventually(lambda: len(worker.exit_codes) > exits, "the worker's end")
    assert worker.exit_codes[-1] == 0


@pytest.mark.parametrize(
    "away_s",
    [pytest.param(away_s, marks=pytest.mark.long) for away_s in (0.5, 3 * LEASE_S, 60.0)],
    ids=["blink", "long", "60 s"],
)
def test_redis_outage_repeats_no_job(cluster: Cluster, away_s: float) -> None:
    jobs = [submit(cluster, "long") for _ in range(2 * SLOTS + 4)]
    running = jobs[: 2 * SLOTS]
    for job_id in running:
        wait_for(cluster, job_id, "token")
    redis = cluster.redis_processes["redis"]
    old_pid, exits, redis.restart_delay_s = redis.pid, len(redis.exit_codes), away_s
    redis.signal(signal.SIGTERM)
    eventually(lambda: len(redis.exit_codes) > exits, "the end of Redis")
    if away_s > LEASE_S:
        body = {"messages": [{"role": "user", "content": "long"}]}
        refused = httpx.post(f"{cluster.settings.url}/v1/jobs/chat", json=body, timeout=30)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    eventually(lambda: redis.pid != old_pid and cluster.redis_answers(), "Redis again", 2 * away_s + 30)
    redis.restart_delay_s = RESTART_DELAY_S
    for job_id in jobs:
        wait_for(cluster, job_id, "succeeded")
        assert_complete(cluster, job_id)
        assert types(cluster, job_id) == ["queued", "started", "succeeded"]
