"""Failovers of Redis, and connections whose peer has vanished, with chats in the middle of their answers."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.cluster import Cluster
from tests.support.event_checks import check_log
from tests.support.proxy import HalfOpenProxy
from tests.support.stack import eventually, main_event_types
from tests.support.stand_ins import LONG
from webapi.client import Client
from worker.jobs.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LEASE_S, SLOTS = 2.0, 4
APP = "tests.support.workers.unruly"
CHATS: dict[str, Any] = {
    "kinds": ("chat",),
    "lease_ttl_s": LEASE_S,
    "drain_s": 0.5,
    "slots": SLOTS,
    "chat_model": "unruly",
}
BODY = {"messages": [{"role": "user", "content": "long"}], "max_tokens": 1000}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a cluster with one kind of worker, whose chats do what their prompts say."""
    home = tmp_path_factory.mktemp("failover")
    return Settings(home=home, **CHATS)


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Iterator[Cluster]:
    """A cluster whose Redis has replicas and Sentinels."""
    with Cluster(settings.replace(redis_replicas=1), APP, sentinels=True) as cluster:
        yield cluster
    assert not cluster.stop_errors


def fail_over(cluster: Cluster, number: signal.Signals) -> None:
    """Send the signal to the primary, and wait until another server is the primary."""
    group = cluster.group
    assert group is not None
    eventually(group.is_healthy, "a primary with two replicas")
    old = eventually(group.primary, "a primary")
    primary = cluster.redis_processes[str(old)]
    primary.may_restart.clear()
    primary.signal(number)
    eventually(lambda: group.primary() not in (None, old), "another primary")
    primary.may_restart.set()
    primary.signal(signal.SIGCONT)  # it has slept through its demotion; no effect if it was killed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.long
def test_failover_repeats_no_job_and_leaves_no_gap(cluster: Cluster, number: signal.Signals) -> None:
    with Client(cluster.settings.url) as client:
        jobs = [client.submit_chat(BODY)["id"] for _ in range(2 * SLOTS + 2)]
        stream = client.events(jobs[0])
        seen = [next(event for event in stream if event["type"] == "token")]
        fail_over(cluster, number)
        seen += stream
        for job_id in jobs:
            events = list(client.events(job_id))
            assert list(check_log(events)) == []
            assert main_event_types(event["type"] for event in events) == ["queued", "started", "succeeded"]
            assert events[-1]["usage"]["completion_tokens"] == LONG + 1
            if job_id == jobs[0]:
                assert events[-len(seen) :] == seen


@pytest.mark.long
def test_submit_without_a_replica_gets_503(cluster: Cluster) -> None:
    group = cluster.group
    assert group is not None
    eventually(group.is_healthy, "a primary with two replicas")
    replicas = [cluster.redis_processes[str(port)] for port in group.servers if port != group.primary()]
    for replica in replicas:
        replica.signal(signal.SIGSTOP)
    refused = httpx.post(f"{cluster.settings.url}/v1/jobs/chat", json=BODY, timeout=30)
    for replica in replicas:
        replica.signal(signal.SIGCONT)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    with Client(cluster.settings.url) as client:
        job_id = client.submit_chat(BODY)["id"]
        assert list(client.events(job_id))[-1]["type"] == "succeeded"


@pytest.mark.long
def test_vanished_peer_is_noticed_by_all_processes(tmp_path: Path) -> None:
    cluster = Cluster(Settings(home=tmp_path, **CHATS), APP)
    with HalfOpenProxy(tmp_path / "valkey" / "valkey.sock") as proxy:
        cluster.settings = cluster.settings.replace(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        with cluster:
            check_vanished_peer(cluster, proxy)
    assert not cluster.stop_errors


def check_vanished_peer(cluster: Cluster, proxy: HalfOpenProxy) -> None:
    with Client(cluster.settings.url) as client:
        job_id = client.submit_chat(BODY)["id"]
        stream = client.events(job_id)
        assert next(event for event in stream if event["type"] == "token")
        proxy.cut_off()
        events = list(stream)
        assert events[-1]["type"] == "succeeded"
        after = eventually(lambda: accepted(cluster), "an accepted submit")
        assert [event["type"] for event in client.events(after)][-1] == "succeeded"
        assert not any(worker.exit_codes for worker in cluster.workers.values())


def accepted(cluster: Cluster) -> str | None:
    response = httpx.post(f"{cluster.settings.url}/v1/jobs/chat", json=BODY, timeout=30)
    return str(response.json()["id"]) if response.status_code == 202 else None
