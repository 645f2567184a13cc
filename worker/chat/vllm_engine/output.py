"""vLLM's AsyncLLM, changed to report once per step.

This is the only module that uses vLLM's private classes. A new version of vLLM may need changes here.

vLLM itself makes two objects for each token, puts them into the queue of the request and wakes the task that
waits there. The tokens of a step arrive together at the output processor. Ours passes them on unchanged.
"""

import multiprocessing.resource_tracker
import signal
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput
from vllm.v1.executor import Executor
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import LogprobsLists

from worker.chat.engine import Candidates
from worker.jobs.errors import EngineFailed
from worker.jobs.readings import EngineStats


class StepOutput(NamedTuple):
    """The new tokens of one request in one step.

    `finished` is True if no more tokens follow, and `failed` if the cause is an error inside vLLM.
    `candidates` are those of each token, if the request asks for log-probabilities. `cached_tokens` are those
    that vLLM has found in its cache, in the first output of a request.
    """

    key: str
    tokens: Sequence[int]
    finished: bool
    failed: bool
    candidates: Sequence[Candidates] = ()
    cached_tokens: int = 0


class StepOutputListener(Protocol):
    """A listener of vLLM's engine. The thread of the event loop calls all methods."""

    def on_outputs(self, outputs: Sequence[StepOutput]) -> Iterable[str]:
        """Receive all outputs of one step and return the keys of the requests to abort."""

    def on_stats(self, stats: EngineStats) -> None:
        """Learn the use of the cache, and the counts since the last call."""

    def on_end(self, error: BaseException | None) -> None:
        """Learn that the engine has died."""


class StepOutputProcessor(OutputProcessor):  # type: ignore[misc]  # vLLM is not installed where mypy runs
    """The replacement for vLLM's output processor. AsyncLLM calls its methods on its event loop.

    vLLM gives each request an id of its own. The processor maps between these ids and our keys.
    """

    def __init__(self, listener: StepOutputListener) -> None:
        super().__init__(None, log_stats=False)
        self._listener = listener
        self._keys: dict[str, str] = {}  # our key by vLLM's id
        self._ids: dict[str, str] = {}  # vLLM's id by our key

    def add_request(self, request: EngineCoreRequest, *_: Any, **__: Any) -> None:
        """Register a request. AsyncLLM calls this before it sends the request to the engine."""
        key = request.external_req_id or request.request_id
        self._keys[request.request_id], self._ids[key] = key, request.request_id

    def process_outputs(self, outputs: list[EngineCoreOutput], *_: Any, **__: Any) -> OutputProcessorOutput:
        """Pass the outputs of a step to the listener, and return the requests that AsyncLLM must abort."""
        keys = self._keys
        known = [self._step_output(key, output) for output in outputs if (key := keys.get(output.request_id))]
        to_abort = self._listener.on_outputs(known)
        return OutputProcessorOutput(request_outputs=[], reqs_to_abort=self.abort_requests(to_abort))

    def update_scheduler_stats(self, scheduler_stats: SchedulerStats | None) -> None:
        """Pass the statistics that `SampledStats` has sent with a step to the listener."""
        if scheduler_stats is not None:
            prefixes = scheduler_stats.prefix_cache_stats
            counts = prefixes.queries, prefixes.hits, prefixes.preempted_requests
            self._listener.on_stats(EngineStats(scheduler_stats.kv_cache_usage, *counts))

    def abort_requests(self, request_ids: Iterable[str], internal: bool = False) -> list[str]:
        """Forget requests by our keys, and return vLLM's ids of those that the engine still runs."""
        ids = [self._ids.pop(key, None) for key in request_ids]
        return [id_ for id_ in ids if id_ is not None and self._keys.pop(id_, "")]

    def propagate_error(self, e: Exception) -> None:
        """Report to the listener that the engine has died."""
        self._listener.on_end(e)

    def has_request(self, request_id: str) -> bool:
        """Return True if the request with this id of vLLM is known."""
        return request_id in self._keys

    def _step_output(self, key: str, output: EngineCoreOutput) -> StepOutput:
        reason = output.finish_reason
        candidates = _candidates(output.new_logprobs) if output.new_logprobs else ()
        cached = _cached_tokens(output)
        if reason is None:
            return StepOutput(key, output.new_token_ids, False, False, candidates, cached)
        del self._keys[output.request_id], self._ids[key]
        failed = reason in (FinishReason.ABORT, FinishReason.ERROR)
        return StepOutput(key, output.new_token_ids, True, failed, candidates, cached)


def _cached_tokens(output: EngineCoreOutput) -> int:
    """Return the number of cached tokens. Some versions of vLLM state it in an object, others directly."""
    stats = getattr(output, "prefill_stats", None)
    return int(getattr(stats or output, "num_cached_tokens", 0))


def _candidates(logprobs: LogprobsLists) -> Sequence[Candidates]:
    """Return the candidates of each token. vLLM puts the chosen token in front of the likeliest ones.

    There may be more of these than the request has asked for, as another request of the batch has.
    """
    tokens = zip(logprobs.logprob_token_ids, logprobs.logprobs, strict=True)
    return [Candidates(ids.tolist(), values.tolist()) for ids, values in tokens]


def start_llm(config: VllmConfig, listener: StepOutputListener) -> AsyncLLM:
    """Start vLLM's engine in its own process and make it report to `listener`.

    The thread that will run the event loop must call this before the loop runs. On a running loop AsyncLLM
    would start to report to its own output processor at once.

    The function blocks SIGINT (Ctrl-C) in this thread and in all processes that vLLM starts. Only the worker
    handles that signal: it drains, and needs its engine for that.

    Raises `EngineFailed` if the engine does not start, or if this version of vLLM is built differently.
    """
    multiprocessing.resource_tracker.ensure_running()  # before the signal is blocked: this resets the mask
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        llm = AsyncLLM(config, Executor.get_class(config), log_stats=False, log_requests=False)
    except (RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise EngineFailed(f"vLLM does not start: {error}") from error
    if not isinstance(getattr(llm, "output_processor", None), OutputProcessor) or llm.output_handler:
        llm.shutdown()
        raise EngineFailed(
            "this version of vLLM is built differently from those that Stoker knows: use 0.24 to 0.33"
        )
    llm.output_processor = StepOutputProcessor(listener)
    return llm
