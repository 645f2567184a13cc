"""The page of the metrics. Every scrape reads it from Redis, so that all API processes report the same."""

from collections.abc import Callable, Iterable, Iterator
from typing import cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import ALLOWUTF8
from prometheus_client.registry import Collector

from webapi.native.gauges import Sample, read_gauges
from webapi.native.zero_series import zero_fields
from webapi.services.backend import Backend
from worker.jobs.metrics import jobs
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.metrics.metric import Counter, Gauge, Histogram
from worker.jobs.metrics.series import counts, distributions, grouped

__all__ = ["export"]


def export(backend: Backend, accept: str) -> tuple[bytes, str]:
    """Return the page of all metrics in the format that the header `Accept` asks for, and its media type."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(backend))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is not a number
        encode, content_type = choose_encoder("")
    # No name needs escaping. By default prometheus_client 0.26 writes vllm_ for vllm: in OpenMetrics.
    return cast("Callable[..., bytes]", encode)(registry, escaping=ALLOWUTF8), content_type


class LedgerCollector(Collector):
    """The metrics of the catalog, as a collector that reads Redis."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Family]:
        """Yield all metrics, also those that have had no event yet."""
        gauges = dict(read_gauges(self._backend))
        queues = [queue for [queue], _ in gauges[jobs.WAITING]]
        stored = grouped({**zero_fields(queues), **self._backend.metrics.read()})
        for metric in METRICS.values():
            if isinstance(metric, Gauge):
                yield _family(GaugeMetricFamily, metric, gauges.get(metric, ()))
            elif metric is jobs.FINISHED:
                zeros, totals = stored.get(metric.name, {}), self._backend.registry.totals()
                yield _family(CounterMetricFamily, metric, (zeros | dict(totals)).items())
            elif isinstance(metric, Counter):
                yield _family(CounterMetricFamily, metric, counts(metric, stored.get(metric.name, {})))
            elif isinstance(metric, Histogram):
                family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, (buckets, total) in distributions(metric, stored.get(metric.name, {})):
                    family.add_metric(labels, buckets, total)
                yield family


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily], metric: Counter | Gauge, samples: Iterable[Sample]
) -> Family:
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
