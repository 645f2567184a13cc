"""The steps of a check. Each step excludes causes for a failure of the steps after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from worker.video.check.report import Figures, Report, Step
from worker.video.check.results import compare
from worker.video.check.trial import ContractBroken, Job, LoadedModel, Trial

__all__ = ["ModelCheck"]

#: What a job changes must not outlive it.
KEEP = "keep what a job changes in the object that `start` returns"
CHANCE = "call `eval()` on the net, and seed all noise in `start`"


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The check of a model, which also runs in batches of `other_batch_size` frames.

    Values of frames may differ by `tolerance` (of 255). The figures go into the report.
    """

    trial: Trial
    other_batch_size: int
    tolerance: float
    report: Report

    def run(self) -> Iterator[Step]:
        """Yield each step that the model has passed.

        Raises `ContractBroken` at the first step that it does not pass. Raises `ConfigurationError` or
        `ModelMissing` if it cannot be loaded, or refuses the clip or the options.
        """
        with LoadedModel(self.trial) as loaded:
            yield Step("loads and warms up", f"{loaded.load_s:.1f} s")
            first = loaded.run("the first job")
            yield Step("runs a clip", first.summary)
            yield self._repeat(first, loaded)
            yield self._pad_with_zeros(first, loaded)
            yield self._share(first, loaded)
        yield self._omit_warm_up(first)
        yield from self._change_batch_size(first)

    def _repeat(self, first: Job, loaded: LoadedModel) -> Step:
        second = loaded.run("a second job", writes=True)
        if loaded.watch.written:
            raise ContractBroken("it writes into its frames, which Stoker still needs: use a copy of them")
        broken = f"a job, or its warm-up, leaves traces in the model: {{}} in a second job ({KEEP})"
        agreement = self._agreement(first, second, broken, chance=True)
        return Step("leaves its frames and the next job alone", agreement)

    def _pad_with_zeros(self, first: Job, loaded: LoadedModel) -> Step:
        job = loaded.run("a job that is padded with zeros", pad="zeros")
        broken = "padding changes the results of real frames: {} if it is black"
        agreement = self._agreement(first, job, broken)
        # The jobs before have waited for the sandbox to start, or have copied frames.
        self.report.figures = Figures.of_job(job, loaded.watch.seconds)
        return Step(f"ignores padding of {sum(batch.padded for batch in job.batches)} frames", agreement)

    def _share(self, first: Job, loaded: LoadedModel) -> Step:
        job = loaded.run("a job beside another one", shares=True)
        broken = f"jobs whose batches take turns disturb each other: {{}} beside another job ({KEEP})"
        return Step("takes turns with another job", self._agreement(first, job, broken))

    def _omit_warm_up(self, first: Job) -> Step:
        with LoadedModel(self.trial, warm_up=False) as loaded:
            job = loaded.run("a job without warm-up")
        broken = f"a warm-up leaves traces in the model: {{}} in a job without it ({KEEP})"
        return Step("keeps no trace of a warm-up", self._agreement(first, job, broken, chance=True))

    def _change_batch_size(self, first: Job) -> Iterator[Step]:
        trial = replace(self.trial, batch_size=self.other_batch_size, segment_batches=1)
        batches = f"in batches of {trial.batch_size}"
        with LoadedModel(trial) as loaded:
            whole = loaded.run(f"a job {batches}")
            broken = f"results depend on the size of batches: {{}} {batches}, not {self.trial.batch_size}"
            yield Step(f"gives the same results {batches}", self._agreement(first, whole, broken))
            stopped = loaded.run("a job that is interrupted", stop_after=-(-len(whole.batches) // 2))
        with LoadedModel(trial, warm_up=False) as loaded:
            yield self._resume(whole, stopped, loaded)

    def _resume(self, whole: Job, stopped: Job, loaded: LoadedModel) -> Step:
        job, watch = loaded.run("the job that continues an interrupted one", resume=stopped), loaded.watch
        if watch.unrestored:
            raise ContractBroken(f"after `restore`, `state` returns another value of {watch.unrestored}")
        way_out = "the pass needs `state` and `restore`, or the class needs `sequential = True`"
        if watch.stateful:
            way_out = "`state` must return all that the next batch needs of those before"
        broken = f"an interrupted job continues with other results: {{}} ({way_out})"
        agreement = self._agreement(whole, job, broken)
        if watch.sequential:
            return Step("starts over after an interruption, because it is sequential", agreement)
        return Step(f"continues after an interruption at frame {stopped.batches[-1].done}", agreement)

    def _agreement(self, expected: Job, job: Job, broken: str, *, chance: bool = False) -> str:
        """Return how well the results of two jobs agree.

        Raises `ContractBroken` if they do not. `broken` is its message, in which {} stands for the first
        difference. `chance` says that the results may also depend on chance.
        """
        found = compare(expected.results, job.results, self.tolerance)
        if found.fault is None:
            return f"largest difference {found.largest:g}"
        if chance:
            self._exclude_chance(expected)
        raise ContractBroken(broken.format(found.fault))

    def _exclude_chance(self, first: Job) -> None:
        """Raise `ContractBroken` if the same job on the model that is loaded again has other results."""
        with LoadedModel(self.trial) as loaded:
            job = loaded.run("the first job of a model that was loaded again")
        if fault := compare(first.results, job.results, self.tolerance).fault:
            raise ContractBroken(f"results depend on chance: {fault} in another run ({CHANCE})")
