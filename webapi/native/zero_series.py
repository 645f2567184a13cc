"""The series that have had no event yet, with the value 0.

Prometheus sees that a series rises only if it has seen the series before. Without them the first event of
each series would be missing in every rate, and the first lost worker in every alert.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import get_args

from worker.jobs.events import TERMINAL, Reason
from worker.jobs.kinds import KINDS, kind_of, model_of
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.metrics.metric import SUM, Counter, Histogram, Metric
from worker.jobs.metrics.video import VIDEO_METRICS, Stage
from worker.jobs.metrics.vllm import ENGINE
from worker.jobs.specs import ChatJob, VideoJob

__all__ = ["zero_fields"]

#: The values of the labels whose values are known before the first event. A metric with another label, such
#: as a route, gets no series here.
KNOWN: dict[str, Sequence[str]] = {
    "engine": (ENGINE,),
    "state": sorted(TERMINAL),
    "kind": tuple(KINDS),
    "reason": get_args(Reason),
    "finished_reason": ("stop", "length", "abort", "error"),
    "stage": get_args(Stage),
    "outcome": ("delivered", "retried", "given_up", "dropped"),
}


def zero_fields(queues: Iterable[str]) -> dict[str, str]:
    """Return a field of each series of these queues, as Redis would hold it, with the value 0."""
    queues, fields = list(queues), {}
    for metric in METRICS.values():
        if isinstance(metric, Counter | Histogram):
            part = [SUM] if isinstance(metric, Histogram) else []
            known = KNOWN | _names(metric, queues)
            for labels in product(*(known.get(label, ()) for label in metric.labels)):
                fields[metric.field(*part, *labels)] = "0"
    return fields


def _names(metric: Metric, queues: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return the queues and the models for which the metric exists."""
    chats = [model_of(queue) for queue in queues if kind_of(queue) == ChatJob.kind]
    if metric in VIDEO_METRICS:
        queues = [queue for queue in queues if kind_of(queue) == VideoJob.kind]
    return {"queue": queues, "model_name": chats}
