"""The form of metrics: name, help and labels, and the fields of Redis that hold the values of their series.

All counters and histograms are fields of one hash with integer values. The field of a counter is its name and
the values of its labels, separated by spaces. Spaces and percent signs in labels are escaped, so that no two
series share a field. A histogram has a field for each boundary and one for the sum. There the boundary, or
"sum", stands between name and labels. `lua/metrics.lua` writes the same fields.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from urllib.parse import unquote

__all__ = ["MICROSECONDS", "Counter", "Gauge", "Histogram", "Increments", "Metric", "split_field"]

#: The scale of metrics in seconds: Redis holds integer microseconds, because sums of fractions would drift.
MICROSECONDS = 1_000_000

#: The part of a histogram's fields that hold the sums of its values. Its other parts are its boundaries.
SUM = "sum"
#: The boundary above all others.
INFINITY = "+Inf"


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric, of which each combination of values of its `labels` is a series.

    The name is that of Prometheus' text format. `scale` is the number of stored units in one unit of the
    metric. A metric equals only itself, so that it is a fast key.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    scale: int = 1

    def field(self, *parts: str) -> str:
        """Return the field of these parts: a histogram's boundary or "sum", and the values of the labels."""
        return " ".join((self.name, *(part.replace("%", "%25").replace(" ", "%20") for part in parts)))


@dataclass(frozen=True, eq=False)
class Gauge(Metric):
    """A value that the API reads when it is asked, so that nothing stores it."""


@dataclass(frozen=True, eq=False)
class Counter(Metric):
    """A sum that only rises."""


@dataclass(frozen=True, eq=False)
class Histogram(Metric):
    """Numbers of values up to each of the `buckets`, and the sum of the values."""

    buckets: tuple[float, ...] = ()

    @property
    def boundaries(self) -> tuple[str, ...]:
        """The buckets' upper bounds as texts, the infinite one included."""
        return (*map(str, self.buckets), INFINITY)


class Increments(dict[str, int]):
    """Increments of fields, which Redis adds in one step."""

    def count(self, counter: Counter, *labels: str, by: float = 1) -> None:
        """Add to the series of a counter."""
        self._add(series_fields(counter, labels)[0], round(by * counter.scale))

    def observe(self, histogram: Histogram, value: float, *labels: str) -> None:
        """Add a value to the series of a histogram. A negative one counts as 0: a clock was set back."""
        fields, value = series_fields(histogram, labels), max(0.0, value)
        self._add(fields[bisect_left(histogram.buckets, value)], 1)
        self._add(fields[-1], round(value * histogram.scale))

    def observe_all(self, histogram: Histogram, values: Sequence[float], *labels: str) -> None:
        """Add values, none of which is negative, to the series of a histogram."""
        fields, rest, place = series_fields(histogram, labels), sorted(values), 0
        if rest:
            self._add(fields[-1], round(sum(rest) * histogram.scale))
        while rest:  # faster than to find the bucket of each value
            boundary = histogram.buckets[place] if place < len(histogram.buckets) else inf
            if number := bisect_right(rest, boundary):
                self._add(fields[place], number)
                rest = rest[number:]
            place += 1

    def _add(self, field: str, amount: int) -> None:
        self[field] = self.get(field, 0) + amount


@lru_cache(4096)
def series_fields(metric: Counter | Histogram, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields of a series: one for each boundary of a histogram, and that of the sum."""
    parts = [(part,) for part in (*metric.boundaries, SUM)] if isinstance(metric, Histogram) else [()]
    return tuple(metric.field(*part, *labels) for part in parts)


def split_field(field: str) -> tuple[str, list[str]]:
    """Return the name of the metric in a field, and the other parts of the field."""
    name, *parts = field.split(" ")
    return name, [unquote(part) for part in parts]
