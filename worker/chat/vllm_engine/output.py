"""vLLM's AsyncLLM, made to report once a step. All that we use of its inner parts is in here.

The stock one makes two objects of each token, puts them into its request's queue and wakes the task that
waits there. The output processor is where a step's tokens arrive together: ours hands them on as they are.
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

from worker.jobs.errors import EngineFailed


class Output(NamedTuple):
    """A request's new tokens; `finished` if no more will come, `failed` if that is an error inside vLLM."""

    key: str
    tokens: Sequence[int]
    finished: bool
    failed: bool


class StepListener(Protocol):
    """Who hears of the engine; all of it is called from the event loop's thread."""

    def on_outputs(self, outputs: Sequence[Output]) -> Iterable[str]:
        """Everything that one step produced. Gives the keys of requests that shall not go on."""

    def on_end(self, error: BaseException | None) -> None:
        """The engine has died."""


class StepOutputs(OutputProcessor):  # type: ignore[misc]  # vLLM is not there when mypy runs
    """Takes the place of vLLM's output processor, whose methods AsyncLLM calls on its event loop."""

    def __init__(self, listener: StepListener) -> None:
        super().__init__(None, log_stats=False)
        self._listener = listener
        self._keys: dict[str, str] = {}  # ours by vLLM's own id of the request
        self._ids: dict[str, str] = {}  # and the other way round

    def add_request(self, request: EngineCoreRequest, *_: Any, **__: Any) -> None:
        """Register a request before the engine hears of it."""
        key = request.external_req_id or request.request_id
        self._keys[request.request_id], self._ids[key] = key, request.request_id

    def process_outputs(self, outputs: list[EngineCoreOutput], *_: Any, **__: Any) -> OutputProcessorOutput:
        """Hand a step on; what shall not go on is aborted by our caller."""
        keys = self._keys
        told = [self._output(key, output) for output in outputs if (key := keys.get(output.request_id))]
        unwanted = self._listener.on_outputs(told)
        return OutputProcessorOutput(request_outputs=[], reqs_to_abort=self.abort_requests(unwanted))

    def abort_requests(self, request_ids: Iterable[str], internal: bool = False) -> list[str]:
        """Forget requests by our keys; gives vLLM's ids of those that the engine still runs."""
        ids = [self._ids.pop(key, None) for key in request_ids]
        return [id_ for id_ in ids if id_ is not None and self._keys.pop(id_, "")]

    def propagate_error(self, e: Exception) -> None:
        """Hear that the engine has died."""
        self._listener.on_end(e)

    def has_request(self, request_id: str) -> bool:
        """Whether a request of vLLM's id is known."""
        return request_id in self._keys

    def _output(self, key: str, output: EngineCoreOutput) -> Output:
        reason = output.finish_reason
        if reason is None:
            return Output(key, output.new_token_ids, False, False)
        del self._keys[output.request_id], self._ids[key]
        return Output(key, output.new_token_ids, True, reason in (FinishReason.ABORT, FinishReason.ERROR))


def start_llm(config: VllmConfig, listener: StepListener) -> AsyncLLM:
    """Start vLLM's engine in its own process, to report to `listener`. EngineFailed if it does not start.

    Called from the thread that will run the event loop, before it does: on a loop AsyncLLM would start to
    report to its own output processor. That thread, and with it all that vLLM starts, never sees Ctrl-C:
    this is for the worker, which drains and needs its engine. The tracker comes first: it resets the mask.
    """
    multiprocessing.resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        llm = AsyncLLM(config, Executor.get_class(config), log_stats=False, log_requests=False)
    except (RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise EngineFailed(f"vLLM does not start: {error}") from error
    if not isinstance(getattr(llm, "output_processor", None), OutputProcessor) or llm.output_handler:
        llm.shutdown()
        raise EngineFailed("this vLLM is not put together as those that Stoker knows: use 0.24 to 0.33")
    llm.output_processor = StepOutputs(listener)
    return llm
