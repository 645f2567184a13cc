"""The routes of administrators: the pause of queues, and the drain of workers."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from webapi.auth import audit
from webapi.description.route import AnswerSpec, describe
from webapi.documents.jobs import QueueDocument, WorkerDocument
from webapi.services.backend import current_backend

__all__ = ["routes"]

routes = Blueprint("operations", __name__)


@routes.post("/v1/queues/<path:name>/pause")
@describe("admin", {200: AnswerSpec("The queue is paused.", QueueDocument)}, (404,))
def pause(name: str) -> ResponseReturnValue:
    """Pause a queue: its jobs wait, and no worker takes one. Running jobs go on, and submits are accepted."""
    backend = current_backend()
    backend.queues.pause(name)
    backend.dispatcher.dispatch_next(name)  # takes the dispatched jobs back
    return _changed("queue_paused", name)


@routes.post("/v1/queues/<path:name>/resume")
@describe("admin", {200: AnswerSpec("The queue is not paused.", QueueDocument)}, (404,))
def resume(name: str) -> ResponseReturnValue:
    """Resume a paused queue."""
    backend = current_backend()
    backend.queues.resume(name)
    backend.dispatcher.dispatch_next(name)
    return _changed("queue_resumed", name)


def _changed(action: str, queue: str) -> ResponseReturnValue:
    audit.log(action, queue=queue)
    return jsonify(current_backend().queues.info(queue))


@routes.post("/v1/workers/<name>/drain")
@describe("admin", {202: AnswerSpec("The worker drains after its next heartbeat.", WorkerDocument)}, (404,))
def drain(name: str) -> ResponseReturnValue:
    """Drain a worker, as SIGTERM does: it takes no new job, finishes or hands back its jobs, and ends."""
    card = current_backend().registry.drain(name)
    audit.log("worker_drained", worker=name)
    return jsonify(card), 202
