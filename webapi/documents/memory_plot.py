"""A plot of the time and the memory of a job's batches."""

from collections.abc import Callable

from webapi.documents.memory import BatchMemoryDocument, MemoryDocument
from webapi.documents.plot import Line, Panel, draw

__all__ = ["memory_plot"]

MIB = 2**20


def memory_plot(report: MemoryDocument) -> str:
    """Return the report as the text of an SVG file.

    It has a marker for each batch of all attempts, in the order of their completion. A GPU has four lines of
    memory. A CPU has one, because all four values are the same figure there.
    """
    title = f"job {report.id}: {len(report.batches)} batches"
    panels = [Panel("time of a batch, ms", [_line(report, "time", lambda batch: batch.seconds * 1000)])]
    if any(batch.source == "cuda" for batch in report.batches):
        memory = [
            _line(report, "reserved", lambda batch: batch.after.reserved / MIB),
            _line(report, "peak reserved", lambda batch: batch.peak_reserved / MIB),
            _line(report, "allocated", lambda batch: batch.after.allocated / MIB),
            _line(report, "peak allocated", lambda batch: batch.peak_allocated / MIB),
        ]
        panels.append(Panel("memory of the GPU, MiB", memory))
    else:
        resident = _line(report, "resident set", lambda batch: batch.peak_allocated / MIB)
        panels.append(Panel("memory of the worker, MiB", [resident]))
    return draw(title, "batch", panels if report.batches else [])


def _line(report: MemoryDocument, label: str, value: Callable[[BatchMemoryDocument], float]) -> Line:
    return Line(label, [value(batch) for batch in report.batches])
