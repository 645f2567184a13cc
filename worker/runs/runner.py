"""What a runner is: between a run's events on one side and an engine that knows none of it on the other."""

from collections.abc import Callable
from typing import Protocol

from worker.runs.run import Run

__all__ = ["Runner"]


class Runner(Protocol):
    """Runs the jobs of one kind."""

    #: Jobs that run at once.
    slots: int
    #: What makes the runs go: "transformers", "torch".
    engine_name: str

    @property
    def context_length(self) -> int | None:
        """Most tokens a sequence may have, for clients' input to be checked; None if it does not apply."""

    @property
    def prompt(self) -> str | None:
        """The model's prompt template, serialised, for clients' input to be checked; None likewise."""

    def start(self, on_broken: Callable[[BaseException], None]) -> None:
        """Load and warm up. `on_broken` is called when the engine cannot go on."""

    def run_job(self, run: Run) -> None:
        """Run the job to its last event; called from a thread of its own.

        Raises `JobFailed` for what ends the job as `failed`.
        """

    def stop(self) -> None:
        """Let go of the model."""
