"""The report of a check of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from worker.video.check.trial import Job, Trial

__all__ = ["Figures", "Report", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the model does as it should. `detail` is a figure, or empty."""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """The speed and the memory of a job.

    - `batch_ms`: the time of the first, the median and the last batch in ms, from host to host.
    - `model_frames_s`: frames per second of the model alone, in whole batches on the device.
    - `pipeline_frames_s`: frames per second of the whole job, including decoding and encoding.
    - `memory`: what `peak_bytes` counts: `cuda` or `rss`.
    - `peak_bytes`: the largest memory of the first batch, of any batch and of the last one.
    """

    batch_ms: tuple[float, float, float]
    model_frames_s: float
    pipeline_frames_s: float
    memory: str
    peak_bytes: tuple[int, int, int]

    @classmethod
    def of_job(cls, job: Job, seconds: Sequence[float]) -> Figures:
        """Return the figures of a job. `seconds` are the times that its batches took on the device."""
        times = [batch.seconds * 1000 for batch in job.batches]
        peaks = [batch.memory.peak_allocated for batch in job.batches]
        first = job.batches[0]
        return cls(
            batch_ms=(times[0], median(times), times[-1]),
            model_frames_s=(first.frames + first.padded) / median(seconds),
            pipeline_frames_s=job.batches[-1].done / job.seconds,
            memory=first.memory.source,
            peak_bytes=(peaks[0], max(peaks), peaks[-1]),
        )


@dataclass(slots=True)
class Report:
    """The outcome of a check. `broken` says in one sentence what breaks the contract, if something does."""

    model: str
    parameters: Mapping[str, Any]
    device: str
    frames: int
    batch_size: int
    steps: list[Step] = field(default_factory=list)
    figures: Figures | None = None
    broken: str | None = None

    @classmethod
    def of_trial(cls, trial: Trial) -> Report:
        """Return the report of a trial that has not begun."""
        parameters = trial.found.model.Options.model_json_schema()
        return cls(trial.found.name, parameters, trial.device, trial.frames, trial.batch_size)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"passed": self.broken is None, **asdict(self)}
