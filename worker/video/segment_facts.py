"""The facts about a segment, which lie beside it until its job's log has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from worker.devices.memory import MemoryReport, MemorySample
from worker.jobs.errors import Unsupported
from worker.jobs.metrics.video import Stage
from worker.jobs.stored import from_json, from_values, to_json
from worker.video.request import BatchDone, VideoRequest

__all__ = ["SegmentFacts", "read_facts"]


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """The reports of a segment's batches, and the seconds of the stages of its worker that no log has."""

    batches: Sequence[BatchDone]
    stages: Mapping[Stage, float] = field(default_factory=dict)

    def to_text(self, worker: str, device: str) -> str:
        """Return the facts as JSON, with the worker and the device that have run the batches."""
        batches = [replace(batch, worker=worker, device=device) for batch in self.batches]
        return to_json(replace(self, batches=batches))

    def report(self, request: VideoRequest, on_batch: Callable[[BatchDone], None]) -> None:
        """Report the batches that earlier runs have not reported, and count the seconds of the stages."""
        for stage, seconds in self.stages.items():
            request.stages.add(stage, seconds)
        for batch in self.batches:
            if batch.done > request.done:
                on_batch(batch)


def read_facts(path: Path) -> SegmentFacts | None:
    """Return the facts that some version has written. Return None if this version cannot read them."""
    try:
        facts = from_json(SegmentFacts, path.read_text("utf-8"))
        batches = [_batch(cast(Mapping[str, Any], values)) for values in facts.batches]
        return SegmentFacts(batches, facts.stages)
    except (OSError, Unsupported, KeyError, TypeError, ValueError):
        return None


def _batch(values: Mapping[str, Any]) -> BatchDone:
    memory = dict(values["memory"])
    for name in ("before", "after"):
        memory[name] = from_values(MemorySample, memory[name])
    return from_values(BatchDone, {**values, "memory": from_values(MemoryReport, memory)})
