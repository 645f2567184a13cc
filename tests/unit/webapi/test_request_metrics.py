"""The metrics of HTTP: what a process measures, and how it adds it to the metrics of all processes."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from flask import Flask, Response
from gunicorn.workers.ggevent import GeventWorker
from redis.exceptions import ConnectionError as RedisConnectionError

from webapi.app import create_app
from webapi.http import request_times
from webapi.server.worker import Worker
from webapi.services.request_metrics import RequestMetrics
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.metrics_store import MetricsStore
from worker.jobs.ledger.store import RedisStore
from worker.jobs.metrics.http import REQUEST_SECONDS
from worker.jobs.metrics.series import distributions, grouped
from worker.jobs.settings import Settings

Labels = tuple[str, ...]


class Network(MetricsStore):
    """A store behind a network that loses requests, or only replies."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__(store)
        self.loses_requests = self.loses_replies = False

    def add(self, increments: Mapping[str, int], process: str, number: int) -> None:
        if not self.loses_requests:
            super().add(increments, process, number)
        if self.loses_requests or self.loses_replies:
            raise RedisConnectionError


def counted(store: MetricsStore) -> dict[Labels, int]:
    """Return the number of requests in Redis by route, method and status."""
    fields = grouped(store.read()).get(REQUEST_SECONDS.name, {})
    return {labels: found.buckets[-1][1] for labels, found in distributions(REQUEST_SECONDS, fields)}


def test_request_metrics_of_processes_add_up(ledger: Ledger) -> None:
    store = MetricsStore(ledger.store)
    processes = [RequestMetrics(store) for _ in range(2)]
    for process in (*processes, *processes):
        process.observe("/livez", "GET", 200, 0.02)
        process.observe("/v1/jobs/<job_id>", "GET", 404, 3.0)
        process.flush()
    assert counted(store) == {("/livez", "GET", "200"): 4, ("/v1/jobs/<job_id>", "GET", "404"): 4}
    stored = grouped(store.read())[REQUEST_SECONDS.name]
    found = dict(distributions(REQUEST_SECONDS, stored))["/livez", "GET", "200"]
    assert found.sum == pytest.approx(0.08)
    assert dict(found.buckets)["0.01"] == 0
    assert dict(found.buckets)["0.025"] == 4


@pytest.mark.parametrize("lost", ["loses_requests", "loses_replies"])
def test_request_metrics_count_once_when_redis_was_away(ledger: Ledger, lost: str) -> None:
    network = Network(ledger.store)
    metrics = RequestMetrics(network)
    metrics.observe("/livez", "GET", 200, 0.1)
    setattr(network, lost, True)
    for _ in range(3):
        with pytest.raises(RedisConnectionError):
            metrics.flush()
        metrics.observe("/livez", "GET", 200, 0.1)
    setattr(network, lost, False)
    metrics.flush()
    metrics.flush()
    assert counted(network) == {("/livez", "GET", "200"): 4}


def test_gunicorn_worker_adds_last_requests_at_its_end(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GeventWorker, "run", lambda worker: None)
    monkeypatch.setattr(RequestMetrics, "start", lambda metrics: None)
    worker = object.__new__(Worker)  # the real one needs gunicorn's arbiter
    worker.wsgi = create_app(settings)
    worker.wsgi.test_client().get("/livez")
    with kept_from_collections():
        worker.run()
    assert counted(MetricsStore(ledger.store)) == {("/livez", "GET", "200"): 1}


@contextmanager
def kept_from_collections() -> Iterator[None]:
    """Check that the block keeps all objects from collections of garbage, and allow them again."""
    gc.unfreeze()
    try:
        yield
        assert gc.get_freeze_count() > 100_000
    finally:
        gc.unfreeze()


class Recorder(RequestMetrics):
    """Metrics that keep the labels of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((route, method, status))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def app(recorder: Recorder) -> Flask:
    app = Flask(__name__)
    request_times.register(app, recorder)

    @app.route("/jobs/<job_id>", methods=["GET", "DELETE"])
    def job(job_id: str) -> str:
        return "x" if job_id != "broken" else str(1 // 0)

    return app


def test_request_times_have_rule_method_and_status(app: Flask, recorder: Recorder) -> None:
    client = app.test_client()
    client.get("/jobs/1")
    client.delete("/jobs/2")
    client.get("/jobs/broken")
    client.head("/jobs/3")
    client.get("/secret/path")
    client.open("/jobs/1", method="BREW")
    assert recorder.seen == [
        ("/jobs/<job_id>", "GET", 200),
        ("/jobs/<job_id>", "DELETE", 200),
        ("/jobs/<job_id>", "GET", 500),
        ("/jobs/<job_id>", "HEAD", 200),
        ("unmatched", "GET", 404),
        ("unmatched", "OTHER", 405),
    ]


def test_request_time_of_stream_ends_with_its_first_chunk(app: Flask, recorder: Recorder) -> None:
    seen = []

    @app.get("/stream")
    def stream() -> Response:
        def chunks() -> Iterator[str]:
            for chunk in "abc":
                seen.append(len(recorder.seen))
                yield chunk

        return Response(chunks())

    assert app.test_client().get("/stream").text == "abc"
    assert seen == [0, 1, 1]
    assert recorder.seen == [("/stream", "GET", 200)]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_request_time_of_stream_without_chunk_ends_with_it(
    app: Flask, recorder: Recorder, method: str
) -> None:
    """The chunks are closed, as they are without the clock."""
    closed = []

    class Chunks(Iterator[str]):
        def __next__(self) -> str:
            raise StopIteration

        def close(self) -> None:
            closed.append(True)

    app.get("/stream")(lambda: Response(Chunks()))
    app.test_client().open("/stream", method=method).close()
    assert recorder.seen == [("/stream", method, 200)]
    assert closed == [True]


def test_request_metrics_outlive_an_error_of_a_flush(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MetricsStore(ledger.store)
    metrics = RequestMetrics(store)
    metrics.observe("/livez", "GET", 200, 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(MetricsStore, "add", lambda *_: 1 / 0)
        metrics.close()
    metrics.close()
    assert counted(store) == {("/livez", "GET", "200"): 1}
