"""A plot of the time and the memory of a job's batches."""

from collections.abc import Callable, Sequence

from webapi.documents.memory import BatchMemoryDocument, MemoryDocument, batches_by_device
from webapi.documents.plot import Column, Line, Panel, draw

__all__ = ["memory_plot"]

MIB = 2**20
#: The characters of a GPU's UUID that are shown, because a column is narrow: `GPU-` and eight more.
UUID_CHARS = 12

Batches = Sequence[BatchMemoryDocument]


def memory_plot(report: MemoryDocument) -> str:
    """Return the report as the text of an SVG file.

    It has a column for each worker and its device, and in it a marker for each of its batches, in the order
    of their completion. A GPU has four lines of memory. A CPU has one, because all four values are the same
    figure there.
    """
    title = f"job {report.id}: {len(report.batches)} batches"
    panels = _gpu_panels if any(batch.source == "cuda" for batch in report.batches) else _cpu_panels
    columns = [Column(_heading(batches[0]), panels(batches)) for batches in batches_by_device(report.batches)]
    return draw(title, "batch", columns)


def _heading(batch: BatchMemoryDocument) -> Sequence[str]:
    return [batch.worker or "", ",".join(name[:UUID_CHARS] for name in (batch.device or "").split(","))]


def _gpu_panels(batches: Batches) -> Sequence[Panel]:
    memory = [
        _line(batches, "reserved", lambda batch: batch.after.reserved / MIB),
        _line(batches, "peak reserved", lambda batch: batch.peak_reserved / MIB),
        _line(batches, "allocated", lambda batch: batch.after.allocated / MIB),
        _line(batches, "peak allocated", lambda batch: batch.peak_allocated / MIB),
    ]
    return [_times(batches), Panel("memory of the GPU, MiB", memory)]


def _cpu_panels(batches: Batches) -> Sequence[Panel]:
    resident = _line(batches, "resident set", lambda batch: batch.peak_allocated / MIB)
    return [_times(batches), Panel("memory of the worker, MiB", [resident])]


def _times(batches: Batches) -> Panel:
    return Panel("time of a batch, ms", [_line(batches, "time", lambda batch: batch.seconds * 1000)])


def _line(batches: Batches, label: str, value: Callable[[BatchMemoryDocument], float]) -> Line:
    return Line(label, [value(batch) for batch in batches])
