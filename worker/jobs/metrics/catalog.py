"""The catalog of all metrics, with the names and buckets for scripts, workers and the page `/metrics`."""

from collections.abc import Iterator, Mapping

from worker.jobs.metrics.jobs import JOB_METRICS
from worker.jobs.metrics.metric import Histogram, Metric
from worker.jobs.metrics.vllm import VLLM_METRICS

__all__ = ["METRICS", "lua_boundaries"]

#: All metrics by name, in the order of the page `/metrics`.
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*JOB_METRICS, *VLLM_METRICS)}


def lua_boundaries() -> str:
    """Return the source of the Lua function that returns the boundaries of a histogram in seconds."""
    return f"local function boundaries(histogram)\n{''.join(_lua_cases())}end\n"


def _lua_cases() -> Iterator[str]:
    for metric in METRICS.values():
        if isinstance(metric, Histogram):
            texts = ", ".join(f"'{boundary}'" for boundary in metric.boundaries)
            yield f"  if histogram == '{metric.name}' then return {{ {texts} }} end\n"
