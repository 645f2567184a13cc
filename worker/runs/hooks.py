"""Hooks: calls that an installation adds to the life of each run, for tracing, audit or metrics."""

import logging
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points
from typing import Protocol, Self

from worker.jobs.errors import ConfigurationError
from worker.jobs.events import Event, Reason
from worker.runs.run import Run

__all__ = ["GROUP", "RunHook", "RunHooks"]

log = logging.getLogger(__name__)

#: The entry point group in which installed packages name their hooks.
GROUP = "stoker.run_hooks"


class RunHook(Protocol):
    """The methods of a hook. A subclass overrides those that it needs.

    An exception of a hook is logged, and the run goes on.
    """

    def before_run(self, run: Run) -> None:
        """Handle the start of a run. Its job's thread calls this after the claim and before the first event.

        The runner may compute already.
        """
        return

    def after_event(self, run: Run, event: Event) -> None:
        """Handle an event of the run that the ledger has logged.

        The outbox's thread, which sends the events of all jobs, calls this. So the method must return
        quickly.
        """
        return

    def after_run(self, run: Run) -> None:
        """Handle the end of a run, which `run.outcome` names. Its job's thread calls this last."""
        return

    def on_requeue(self, job_id: str, reason: Reason) -> None:
        """Handle a job that this process has put back into its queue, whichever worker had it."""
        return


class RunHooks:
    """The hooks of this process, called one after the other."""

    def __init__(self, hooks: Sequence[RunHook] = ()) -> None:
        self._hooks = hooks
        #: A run spends time on each of its events only for hooks that handle events.
        self._event_hooks = [
            hook for hook in hooks if getattr(type(hook), "after_event", None) is not RunHook.after_event
        ]

    @classmethod
    def installed(cls, *own: RunHook) -> Self:
        """Return these hooks, and one object of each class that an installed package names in the group.

        Raises `ConfigurationError` if one cannot be imported or created.
        """
        hooks = [*own]
        for point in entry_points(group=GROUP):
            try:
                hooks.append(point.load()())
            except Exception as error:
                raise ConfigurationError(f"the run hook {point.name} cannot be loaded: {error}") from error
            log.info("run hook %s: %s", point.name, point.value)
        return cls(hooks)

    def before_run(self, run: Run) -> None:
        """Call `before_run` of all hooks, and have the run call their `after_event`."""
        if self._event_hooks:
            run.on_event = partial(self._call, "after_event", run)
        self._call("before_run", run)

    def after_run(self, run: Run) -> None:
        """Call `after_run` of all hooks."""
        self._call("after_run", run)

    def on_requeue(self, job_id: str, reason: Reason) -> None:
        """Call `on_requeue` of all hooks."""
        self._call("on_requeue", job_id, reason)

    def _call(self, name: str, *args: object) -> None:
        for hook in self._hooks:
            try:
                getattr(hook, name)(*args)
            except Exception:
                log.exception("the run hook %s failed in %s", type(hook).__name__, name)
