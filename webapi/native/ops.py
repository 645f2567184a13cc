"""The operational routes: health, queues, workers and metrics."""

import logging
from importlib.metadata import version

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError

from webapi.description.parts import TEXT
from webapi.description.route import AnswerSpec, describe
from webapi.documents.jobs import HealthDocument, QueuesDocument, VersionDocument, WorkersDocument
from webapi.native.metrics import export
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
            "The metrics in the exposition format that the client accepts: OpenMetrics, or Prometheus' text.",
            content={"text/plain": TEXT, "application/openmetrics-text": TEXT},
        )
    },
)
def metrics() -> ResponseReturnValue:
    """Export the metrics of queues, jobs, chats and workers for Prometheus."""
    page, content_type = export(current_backend(), request.headers.get("Accept", ""))
    return Response(page, content_type=content_type)
