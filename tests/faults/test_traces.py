"""The trace of a chat whose worker and API are killed, as a collector gets it."""

import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.support.cluster import Cluster
from tests.support.otlp import ReceivedSpan, Receiver, receiving
from tests.support.stack import eventually
from worker.jobs.settings import Settings
from worker.jobs.trace_context import TraceContext

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

QUEUE = "chat.unruly"


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, collector: Receiver) -> Iterator[Cluster]:
    settings = Settings(
        home=tmp_path_factory.mktemp("traces"),
        kinds=["chat"],
        lease_ttl_s=2.0,
        drain_s=0.5,
        chat_model="unruly",
        otlp_endpoint=collector.url,
    )
    with Cluster(settings, "tests.support.workers.unruly") as cluster:
        yield cluster
    assert not cluster.stop_errors


def ended(cluster: Cluster, job_id: str) -> bool:
    return cluster.ledger.get(job_id).terminal


def by_name(collector: Receiver, trace_id: str, name: str) -> list[ReceivedSpan]:
    return [span for span in collector.of_trace(trace_id) if span.name == name]


@pytest.mark.parametrize("api_is_killed", [False, True])
def test_killed_attempt_has_its_span_and_the_next_one_is_linked_to_it(
    cluster: Cluster, collector: Receiver, api_is_killed: bool
) -> None:
    client = TraceContext(f"{1 + api_is_killed}" * 32, "a" * 16)
    cluster.wait_for_workers()
    body = {"messages": [{"role": "user", "content": "story"}], "max_tokens": 400, "min_tokens": 400}
    url, headers = f"{cluster.settings.url}/v1/jobs/chat", {"traceparent": client.traceparent}
    job_id = httpx.post(url, json=body, headers=headers).json()["id"]
    eventually(lambda: len(cluster.ledger.events(job_id)) > 20, "some tokens")
    name = cluster.ledger.get(job_id).worker
    pid = next(card.pid for card in cluster.cards() if card.name == name)
    next(worker for worker in cluster.workers.values() if worker.pid == pid).signal(signal.SIGKILL)
    if api_is_killed:  # its own span is lost then
        cluster.web.signal(signal.SIGKILL)
    eventually(lambda: ended(cluster, job_id), "the end of the job")
    eventually(lambda: len(by_name(collector, client.trace_id, "chat unruly")) == 2, "the spans")
    [send] = by_name(collector, client.trace_id, f"send {QUEUE}")
    lost, last = by_name(collector, client.trace_id, f"process {QUEUE}")
    runs = by_name(collector, client.trace_id, "chat unruly")
    assert [span.parent for span in (lost, last, *runs)] == [send.id, send.id, lost.id, last.id]
    assert (lost.failed, lost.attributes["stoker.requeue.reason"]) == (True, "worker_lost")
    assert (lost.attributes["stoker.worker"], lost.links) == (name, [])
    assert (last.failed, last.links) == (False, [(client.trace_id, lost.id)])
    assert last.attributes["stoker.attempt.outcome"] == "succeeded"
    assert runs[1].attributes["gen_ai.usage.output_tokens"] == 400
    if not api_is_killed:
        [post] = eventually(lambda: by_name(collector, client.trace_id, "POST /v1/jobs/chat"), "the request")
        assert (post.parent, send.parent) == (client.span_id, post.id)


def test_job_that_a_script_ends_has_its_span(cluster: Cluster, collector: Receiver) -> None:
    client = TraceContext("3" * 32, "b" * 16)
    body = {"messages": [{"role": "user", "content": "story"}], "max_tokens": 2000, "timeout_s": 1}
    url, headers = f"{cluster.settings.url}/v1/jobs/chat", {"traceparent": client.traceparent}
    httpx.post(url, json=body, headers=headers).raise_for_status()
    [process] = eventually(lambda: by_name(collector, client.trace_id, f"process {QUEUE}"), "the span")
    assert (process.failed, process.attributes["error.type"]) == (True, "timeout")
