"""The series that Redis holds, read from the fields of its hash."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from worker.jobs.metrics.metric import INFINITY, SUM, Counter, Histogram, split_field

__all__ = ["Distribution", "counts", "distributions", "grouped"]


class Distribution(NamedTuple):
    """A series of a histogram: the number of values up to each boundary, in their order, and their sum."""

    buckets: Sequence[tuple[str, int]]
    sum: float


def grouped(fields: Mapping[str, str]) -> dict[str, dict[tuple[str, ...], int]]:
    """Return the values of all fields by the name of their metric, and then by their other parts."""
    found: dict[str, dict[tuple[str, ...], int]] = {}
    for field, value in sorted(fields.items()):
        name, parts = split_field(field)
        found.setdefault(name, {})[tuple(parts)] = int(value)
    return found


def counts(
    counter: Counter, fields: Mapping[tuple[str, ...], int]
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the labels' values and the value of each series of a counter."""
    for labels, value in fields.items():
        yield labels, value / counter.scale


def distributions(
    histogram: Histogram, fields: Mapping[tuple[str, ...], int]
) -> Iterator[tuple[tuple[str, ...], Distribution]]:
    """Yield the labels' values and the distribution of each series of a histogram.

    Another release may have other boundaries. Its values count for the next boundary of this one.
    """
    series: dict[tuple[str, ...], dict[str, int]] = {}
    for (part, *labels), value in fields.items():
        series.setdefault(tuple(labels), {})[part] = value
    for values, parts in series.items():
        total = parts.pop(SUM, 0) / histogram.scale
        numbers = dict.fromkeys(histogram.boundaries, 0)
        for part, number in parts.items():
            numbers[part if part in numbers else _boundary(histogram, part)] += number
        yield values, Distribution([*zip(numbers, accumulate(numbers.values()), strict=True)], total)


def _boundary(histogram: Histogram, text: str) -> str:
    above = (str(bound) for bound in histogram.buckets if bound >= float(text))
    return next(above, INFINITY)
