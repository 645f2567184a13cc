"""The metrics in Redis, for comparisons."""

from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.metrics_store import MetricsStore
from worker.jobs.metrics.catalog import METRICS
from worker.jobs.metrics.metric import Histogram

__all__ = ["raised"]


def raised(ledger: Ledger) -> dict[str, int]:
    """Return the values of all series: of a histogram the number of its values."""
    found: dict[str, int] = {}
    for field, value in MetricsStore(ledger.store).read().items():
        name, *labels = field.split(" ")
        if isinstance(METRICS.get(name), Histogram):
            part, *labels = labels
            if part == "sum":
                continue
        key = " ".join((name, *labels))
        found[key] = found.get(key, 0) + int(value)
    return found
