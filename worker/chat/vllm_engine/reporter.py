"""Turns the outputs of vLLM's steps into deltas and reports them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from worker.chat.engine import Delta, OnBroken, OnStep
from worker.chat.request_tracker import RequestTracker
from worker.jobs.chat.grammars import TOO_COMPLEX
from worker.jobs.errors import EngineDied, EngineFailed, InvalidStructure
from worker.jobs.readings import EngineStats

if TYPE_CHECKING:
    from worker.chat.vllm_engine.output import StepOutput


class StepReporter:
    """The listener of vLLM's outputs (`StepOutputListener`). It calls `on_step` and `on_broken`.

    The event loop's thread calls all methods.
    """

    on_step: OnStep
    on_broken: OnBroken

    def __init__(self, tracker: RequestTracker) -> None:
        self._tracker = tracker
        #: The use of the cache at the last report, and the counts since the start.
        self.stats = EngineStats()

    def on_outputs(self, outputs: "Sequence[StepOutput]") -> Iterable[str]:
        """Report the deltas of a step.

        Returns the keys of requests that have ended for us but still run in vLLM.
        """
        deltas, to_abort = list[Delta](), list[str]()
        for output in outputs:
            delta = self._to_delta(output)
            if delta is not None:
                deltas.append(delta)
            if not output.finished and (delta is None or delta.finish_reason):
                to_abort.append(output.key)
        self.report(deltas)
        return to_abort

    def on_stats(self, stats: EngineStats) -> None:
        """Add the counts of some steps."""
        total = self.stats
        self.stats = EngineStats(
            stats.kv_cache_usage,
            total.prefix_cache_queries + stats.prefix_cache_queries,
            total.prefix_cache_hits + stats.prefix_cache_hits,
            total.preemptions + stats.preemptions,
        )

    def on_end(self, error: BaseException | None) -> None:
        """End all running requests, then report the error if there is one. A second call does nothing."""
        if not self._tracker.serving:
            return
        try:
            self.report(self._tracker.close(EngineDied.because_of(error)))
        finally:
            if error is not None:
                self.on_broken(error)

    def report(self, deltas: Sequence[Delta]) -> None:
        """Report these deltas and the pending finishes in one call of `on_step`."""
        if all_deltas := [*deltas, *self._tracker.take_pending_finishes()]:
            self.on_step(all_deltas)

    def _to_delta(self, output: "StepOutput") -> Delta | None:
        """Return the delta of one output; None if its request has ended, by a stop string or a cancel."""
        state = self._tracker.get_state(output.key)
        if state is None:
            return None
        if output.failed:
            structured = state.request.sampling.structured_outputs
            error = InvalidStructure(TOO_COMPLEX) if structured else EngineFailed("vLLM aborted this chat")
            return self._tracker.fail_request(output.key, error)
        state.cached_tokens = output.cached_tokens
        return self._tracker.add_tokens(output.key, state, output.tokens, output.finished, output.candidates)
