"""The catalog of all metrics, with the names and buckets for scripts, workers and the page `/metrics`."""

from collections.abc import Iterator, Mapping

from worker.jobs.metrics.http import HTTP_METRICS
from worker.jobs.metrics.jobs import JOB_METRICS
from worker.jobs.metrics.metric import Histogram, Metric
from worker.jobs.metrics.video import VIDEO_METRICS
from worker.jobs.metrics.vllm import VLLM_METRICS
from worker.jobs.metrics.webhooks import WEBHOOK_METRICS
from worker.jobs.metrics.workers import WORKER_METRICS

__all__ = ["METRICS", "lua_boundaries"]

#: All metrics by name, in the order of the page `/metrics`.
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for area in (JOB_METRICS, VLLM_METRICS, VIDEO_METRICS, WORKER_METRICS, WEBHOOK_METRICS, HTTP_METRICS)
    for metric in area
}


def lua_boundaries() -> str:
    """Return the source of the Lua function that returns the boundaries of a histogram in seconds."""
    return f"local function boundaries(histogram)\n{''.join(_lua_cases())}end\n"


def _lua_cases() -> Iterator[str]:
    for metric in METRICS.values():
        if isinstance(metric, Histogram):
            texts = ", ".join(f"'{boundary}'" for boundary in metric.boundaries)
            yield f"  if histogram == '{metric.name}' then return {{ {texts} }} end\n"
