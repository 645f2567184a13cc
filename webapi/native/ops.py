"""The operational routes: health, queues, workers and metrics."""

import logging
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from webapi.description.parts import TEXT
from webapi.description.route import AnswerSpec, describe
from webapi.documents.jobs import HealthDocument, QueuesDocument, VersionDocument, WorkersDocument
from webapi.services.backend import Backend, current_backend
from worker.jobs.errors import NotReady

__all__ = ["routes"]

logger = logging.getLogger(__name__)
routes = Blueprint("ops", __name__)


@routes.get("/livez")
@describe("public", {200: AnswerSpec("This process answers.", HealthDocument)})
def livez() -> ResponseReturnValue:
    """Report that this process is alive."""
    return HealthDocument(status="alive").model_dump()


@routes.get("/readyz")
@describe("public", {200: AnswerSpec("Redis takes writes, and workers are ready.", HealthDocument)})
def readyz() -> ResponseReturnValue:
    """Report that the service is ready: Redis takes writes, and each served kind has a warmed-up worker."""
    _check_ready(current_backend())
    return HealthDocument(status="ready").model_dump()


@routes.get("/health")
@describe(
    "public",
    {
        200: AnswerSpec("Redis takes writes, and workers are ready."),
        503: AnswerSpec("Redis takes no writes, or workers are missing. `/readyz` tells the reason."),
    },
)
def health() -> ResponseReturnValue:
    """Report in the status alone that the service is ready, as vLLM's server does."""
    try:
        _check_ready(current_backend())
    except (NotReady, RedisError) as error:
        logger.debug("not ready: %s", error)
        return "", 503
    return "", 200


@routes.get("/version")
@describe("public", {200: AnswerSpec("The version.", VersionDocument)})
def show_version() -> ResponseReturnValue:
    """Show the version of Stoker."""
    return VersionDocument(version=version("stoker")).model_dump()


def _check_ready(backend: Backend) -> None:
    """Raise `NotReady` or `RedisError` unless Redis takes writes and each served kind has a ready worker."""
    backend.store.check_writes()
    ready = {worker.kind for worker in backend.registry.live() if worker.state == "ready"}
    missing = [kind for kind in backend.settings.kinds if kind not in ready]
    if missing:
        raise NotReady(f"no worker is ready for: {', '.join(missing)}")


@routes.get("/v1/queues")
@describe("read", {200: AnswerSpec("The queues.", QueuesDocument)})
def queues() -> ResponseReturnValue:
    """List the queues with their waiting and running jobs.

    The queue of a model without a worker is listed as long as it has jobs or is paused.
    """
    backend = current_backend()
    served = backend.registry.served_queues()
    found = (
        queue
        for queue in backend.queues.all_info()
        if queue.waiting or queue.running or queue.paused or queue.name in served
    )
    return QueuesDocument(queues=list(found)).model_dump()


@routes.get("/v1/workers")
@describe("read", {200: AnswerSpec("The live workers.", WorkersDocument)})
def workers() -> ResponseReturnValue:
    """List the workers that are alive."""
    return WorkersDocument(workers=current_backend().registry.live()).model_dump()


@routes.get("/metrics")
@describe(
    "metrics",
    {
        200: AnswerSpec(
            "The metrics in the exposition format that the client accepts.",
            content={"text/plain": TEXT, "application/openmetrics-text": TEXT},
        )
    },
)
def metrics() -> ResponseReturnValue:
    """Export the state of queues and workers as Prometheus metrics."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(current_backend()))
    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    except (TypeError, ValueError):  # a version that is not a number
        encode, content_type = choose_encoder("")
    return Response(encode(registry), content_type=content_type)


class LedgerCollector(Collector):
    """A collector that reads the ledger at every scrape, so that all API processes report the same values."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of queues, finished jobs and workers."""
        yield from self._queues()
        finished = CounterMetricFamily("stoker_jobs_finished", "Jobs that ended.", labels=["queue", "state"])
        for labels, count in self._backend.registry.totals().items():
            finished.add_metric(labels, count)
        yield finished
        workers = GaugeMetricFamily("stoker_workers", "Workers alive.", labels=["kind", "state"])
        found = Counter((worker.kind, worker.state) for worker in self._backend.registry.live())
        for kind_and_state, number in sorted(found.items()):
            workers.add_metric(kind_and_state, number)
        yield workers

    def _queues(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("stoker_jobs_waiting", "Jobs waiting.", labels=["queue"])
        running = GaugeMetricFamily("stoker_jobs_running", "Jobs running.", labels=["queue"])
        slots = GaugeMetricFamily("stoker_slots", "Slots of ready workers.", labels=["queue"])
        wait = GaugeMetricFamily(
            "stoker_estimated_wait_seconds", "Until a job sent now would start.", labels=["queue"]
        )
        for queue in self._backend.queues.all_info():
            waiting.add_metric([queue.name], queue.waiting)
            running.add_metric([queue.name], queue.running)
            slots.add_metric([queue.name], queue.slots)
            if queue.estimated_wait_s is not None:
                wait.add_metric([queue.name], queue.estimated_wait_s)
        yield from (waiting, running, slots, wait)
