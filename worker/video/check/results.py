"""The results of a job before the encoder's losses, and how the results of two jobs differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.video.encoding.writer import SegmentWriter

__all__ = ["Difference", "Results", "compare", "recording_writer"]

#: The results by their times: frames (H,W,3) uint8 RGB, or records.
Results = dict[int, Any]
#: Numbers in records may differ by one of these, because a model computes other batch sizes in other ways.
ABSOLUTE, RELATIVE = 0.01, 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference between the values of two jobs, and the first one that is too large.

    Values are those of frames (0 to 255), or numbers in records. `fault` says where and how much the jobs
    differ, or is None if they agree.
    """

    largest: float
    fault: str | None


def recording_writer(add: Callable[[Results], None]) -> type[SegmentWriter]:
    """Return a class of writers that also hands a copy of each batch's results to `add`."""

    class RecordingWriter(SegmentWriter):
        """A writer that is watched."""

        def write(
            self,
            results: Any,
            pts: Sequence[int],
            frames: int,
            state: Callable[[Path], None] | None = None,
        ) -> None:
            copies = results.copy() if isinstance(results, np.ndarray) else map(json.loads, results)
            add(dict(zip(pts, copies, strict=True)))
            super().write(results, pts, frames, state)

    return RecordingWriter


def compare(expected: Results, results: Results, tolerance: float) -> Difference:
    """Compare `results` with those of another job at the same times.

    Values of frames may differ by `tolerance`, and numbers in records by `ABSOLUTE` or `RELATIVE`.
    """
    largest, fault = 0.0, None
    for number, time in enumerate(expected):
        if time not in results:  # an earlier attempt has made it
            continue
        found = _compare(expected[time], results[time], tolerance)
        largest = max(largest, found.largest)
        if found.fault and fault is None:
            fault = f"result {number} {found.fault}"
    return Difference(largest, fault)


def _compare(expected: Any, result: Any, tolerance: float) -> Difference:
    if isinstance(expected, Mapping):
        return _compare_records(expected, result)
    largest = int(np.abs(expected.astype(np.int16) - result).max())
    return Difference(largest, f"differs by up to {largest} of 255" if largest > tolerance else None)


def _compare_records(expected: Mapping[str, Any], result: Mapping[str, Any]) -> Difference:
    largest, fault = 0.0, None
    for path, one, other in _leaves("", expected, result):
        numbers = _is_number(one) and _is_number(other)
        if numbers:
            largest = max(largest, abs(one - other))
        same = math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE) if numbers else one == other
        if not same and fault is None:
            fault = f"has {other!r} instead of {one!r} as {path}"
    return Difference(largest, fault)


def _leaves(path: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the path of each value that is no list or mapping, or differs in form, and both values."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name in one:
            yield from _leaves(f"{path}.{name}" if path else name, one[name], other[name])
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, parts in enumerate(zip(one, other, strict=True)):
            yield from _leaves(f"{path}[{index}]", *parts)
    else:
        yield path or "the record", one, other


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
