"""The trial of a model: the jobs that a check runs, each on the pipeline of a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worker.jobs.errors import ConfigurationError, InvalidOptions, JobFailed, StokerError
from worker.jobs.limits import Limits
from worker.video.check.results import Results, recording_writer
from worker.video.check.watched_model import WatchedModel
from worker.video.inference.padding import Pad
from worker.video.models.find import FoundModel
from worker.video.pipeline import VideoPipeline
from worker.video.request import BatchDone, PipelineCanceled, VideoRequest, VideoResult

__all__ = ["ContractBroken", "Job", "LoadedModel", "Trial"]


class ContractBroken(StokerError):
    """The model breaks its contract. The message is one sentence."""

    code = "contract_broken"


@dataclass(frozen=True, slots=True)
class Trial:
    """A model, and what it is tried on.

    `clip` has `frames` frames. `folder` is for files of the jobs. `batch_size` and `segment_batches` are the
    pipeline's.
    """

    found: FoundModel
    clip: Path
    frames: int
    folder: Path
    device: str
    batch_size: int
    segment_batches: int
    limits: Limits
    options: Mapping[str, Any]
    uploads: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Job:
    """A job that has run, in `seconds`. `result` is None if it was interrupted."""

    work: Path
    results: Results
    batches: Sequence[BatchDone]
    result: VideoResult | None
    seconds: float

    @property
    def summary(self) -> str:
        """The form of the results."""
        if not (result := self.result):
            return "interrupted"
        what = f"frames of {result.width}x{result.height}" if result.kind == "video" else "records"
        return f"{result.results} {what} of {result.frames} frames"


class LoadedModel:
    """A pipeline whose model was loaded anew. It is a context manager.

    `watch` watches the model. `load_s` is the time in seconds for loading and warming up. `warm_up` says
    whether blank batches run before each job, as on a GPU.
    """

    _numbers = count()

    def __init__(self, trial: Trial, *, warm_up: bool = True) -> None:
        self._trial = trial
        self.watch = WatchedModel(trial.found)
        self._results: Results = {}
        self._pipeline = VideoPipeline(
            lambda: self.watch.found,
            device=trial.device,
            batch_size=trial.batch_size,
            segment_batches=trial.segment_batches,
            limits=trial.limits,
            warm_up_per_clip=warm_up,
            planes=False,  # results are compared as the model returns them
            segment_writer=recording_writer(lambda results: self._results.update(results)),
        )

    def __enter__(self) -> Self:
        began = time.perf_counter()
        self._pipeline.load()
        self.load_s = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipeline.close()

    def run(
        self,
        name: str,
        *,
        pad: Pad = "last",
        writes: bool = False,
        shares: bool = False,
        stop_after: int | None = None,
        resume: Job | None = None,
    ) -> Job:
        """Run a job. `name` stands for it in messages.

        `stop_after` interrupts it after so many batches, and `resume` continues an interrupted one. `writes`
        watches whether the model writes into its frames. `shares` has batches of another job take turns with
        those of this one. Raises `ContractBroken` if the job fails, and
        `ConfigurationError` if the model refuses its clip or options.
        """
        self.watch.reset(writes=writes, shares=shares)
        self._results, batches = {}, list[BatchDone]()
        trial, number = self._trial, next(self._numbers)
        work = resume.work if resume else trial.folder / f"work-{number}"
        request = VideoRequest(
            source=trial.clip,
            target=trial.folder / f"result-{number}.mp4",
            work=work,
            options=trial.options,
            uploads=trial.uploads,
            pad=pad,
            done=resume.batches[-1].done if resume else 0,
        )
        result, began = None, time.perf_counter()
        try:
            result = self._pipeline.run_clip(
                request, on_batch=batches.append, canceled=lambda: len(batches) == stop_after
            )
        except PipelineCanceled:
            pass
        except InvalidOptions as error:
            raise ConfigurationError(f"{error}: use another --clip, or options with --set") from error
        except JobFailed as error:
            broken = f"batch {len(batches) + 1} of {name}: {error}"
            raise ContractBroken(broken) from self.watch.failure or error
        return Job(work, self._results, batches, result, time.perf_counter() - began)
