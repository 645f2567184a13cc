"""The interface of a runner, which connects a run to an engine that knows nothing of jobs and events."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from worker.jobs.readings import EngineStats
from worker.runs.run import Run

__all__ = ["Runner"]


class Runner(Protocol):
    """Runs the jobs of one kind."""

    #: How many jobs may run at once.
    slots: int
    #: The library that executes the model, for example "transformers" or "torch".
    engine_name: str
    #: The names of the model's adapters, which are models of their own for requests.
    adapters: Collection[str]
    #: Whether it may get a run that is not claimed yet, at which it begins to compute before `Run.begin`.
    starts_unclaimed: bool

    @property
    def context_length(self) -> int | None:
        """The most tokens that a sequence may have, or None for a kind without tokens.

        The API checks requests against it.
        """

    @property
    def prompt(self) -> str | None:
        """The model's serialised prompt template, or None for a kind without prompts.

        The API counts the tokens of requests with it.
        """

    @property
    def sampling(self) -> Collection[str] | None:
        """The names of what the worker supports of a chat (`ChatJob.asked`), or None for other kinds.

        The API refuses all others.
        """

    @property
    def parameters(self) -> Mapping[str, Any] | None:
        """The JSON schema of the options that the model takes, or None for a kind without options.

        The API shows them, and refuses jobs with others.
        """

    @property
    def engine_stats(self) -> EngineStats | None:
        """The use of the engine's cache, or None for an engine without one; also before `start`."""

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Load the model and warm it up. The runner calls `on_broken` when its engine cannot go on."""

    def run_job(self, run: Run) -> None:
        """Run the job to its terminal event. The lane calls this in a thread for each job.

        Raises `JobFailed` for an error that ends the job as `failed`.
        """

    def stop(self) -> None:
        """Release the model and the memory of its device."""
