"""vLLM's schedulers, changed to continue an answer that an earlier attempt began.

vLLM takes the tokens of that attempt for the end of the prompt. A grammar would start again behind them, and
penalties and bad words would not count them. This scheduler does what vLLM's own does with a request that
goes on after a preemption. EngineCore's process imports it.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from worker.chat.vllm_engine.grammar_backend import LimitedGuidance
from worker.chat.vllm_engine.prompt_grouping import PromptGrouping
from worker.chat.vllm_engine.sampled_stats import SampledStats

__all__ = ["GENERATED", "ResumingAsyncScheduler", "ResumingScheduler", "install_scheduler", "moves_tokens"]

#: The number of generated tokens at the end of the prompt, in `SamplingParams.extra_args`.
GENERATED = "stoker_generated"


def moves_tokens(config: VllmConfig) -> bool:
    """Return whether the scheduler moves generated tokens from the prompt to the output.

    Only model runner V2 takes requests that have output already.
    """
    return bool(config.use_v2_model_runner)


def install_scheduler(config: VllmConfig) -> None:
    """Make vLLM's engine use our scheduler, of the kind that vLLM has chosen. That kind is known only now."""
    kind = ResumingAsyncScheduler if config.scheduler_config.async_scheduling else ResumingScheduler
    config.scheduler_config.scheduler_cls = f"{__name__}.{kind.__name__}"


class _Resuming:
    """The treatment of resumed requests and structured answers, for both kinds of schedulers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config, manager = self.vllm_config, self.structured_output_manager  # type: ignore[attr-defined]
        vocabulary = config.model_config.get_vocab_size()
        with suppress(ValueError):  # llguidance cannot read the tokenizer, so no chat asks for a grammar
            manager.backend = LimitedGuidance(config, tokenizer=manager.tokenizer, vocab_size=vocabulary)

    def add_request(self, request: Request) -> None:
        """Queue a request."""
        self.resume(request)
        super().add_request(request)  # type: ignore[misc]

    def resume(self, request: Request) -> None:
        """Let the counts and the grammar of a request go on behind its generated tokens."""
        if not (generated := _generated(request)):
            return
        tokens = list(request.prompt_token_ids[-generated:])
        if moves_tokens(self.vllm_config):  # type: ignore[attr-defined]
            request.prompt_token_ids = request.prompt_token_ids[:-generated]
            request.num_prompt_tokens -= generated
            request._output_token_ids.extend(tokens)
            # As after a preemption. Otherwise vLLM asserts that no token behind the prompt is in its cache.
            request.prefill_stats = None
        if structured := request.structured_output_request:
            # A token that the grammar refuses leaves it in its state of error.
            structured._grammar = _then(
                structured._grammar, lambda grammar: grammar.accept_tokens(request.request_id, tokens)
            )

    def _update_request_with_output(
        self, request: Request, new_token_ids: list[int], *args: Any, **kwargs: Any
    ) -> tuple[list[int], bool]:
        """Add the tokens of a step, and end a request whose grammar has met a limit.

        llguidance then allows only the end of the answer, which would look complete.
        """
        tokens, stopped = super()._update_request_with_output(request, new_token_ids, *args, **kwargs)  # type: ignore[misc]
        structured = request.structured_output_request
        if structured and structured.grammar.ll_matcher.is_error():
            request.status, stopped = RequestStatus.FINISHED_ERROR, True
        return tokens, stopped


class ResumingScheduler(_Resuming, SampledStats, PromptGrouping, Scheduler):  # type: ignore[misc]  # vLLM is not installed where mypy runs
    """The scheduler for engines that take one step after the other."""


class ResumingAsyncScheduler(_Resuming, SampledStats, PromptGrouping, AsyncScheduler):  # type: ignore[misc]  # as above
    """The scheduler for engines that prepare a step while the one before runs."""


def _generated(request: Request) -> int:
    params = request.sampling_params
    return int(((params and params.extra_args) or {}).get(GENERATED, 0))


def _then(grammar: Any, advance: Callable[[Any], object]) -> Any:
    """Return the grammar, or the future of one, after `advance`."""
    if not isinstance(grammar, Future):
        advance(grammar)
        return grammar
    advanced: Future[Any] = Future()

    def on_compiled(compiled: "Future[Any]") -> None:
        try:
            advance(compiled.result())
            advanced.set_result(compiled.result())
        except Exception as error:
            advanced.set_exception(error)

    grammar.add_done_callback(on_compiled)
    return advanced
