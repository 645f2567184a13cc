"""transformers' continuous batching manager, changed to report once per step and to survive memory shortages.

Only this module, `salted_cache.py` and `sampling.py` subclass transformers' continuous batching classes,
which are not a public interface. A new version of transformers may need changes there.
"""

import logging
import secrets
from collections.abc import Sequence
from math import ceil
from typing import Protocol, cast

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching.continuous_api import (
    ContinuousBatchingManager,
    ContinuousBatchProcessor,
    OutputRouter,
)
from transformers.generation.continuous_batching.requests import GenerationOutput

from worker.chat.checkpoint import ModelFiles
from worker.chat.engine import Candidates
from worker.chat.grammar_tokenizer import grammar_tokenizer
from worker.chat.request_tracker import AdmittedRequest
from worker.chat.transformers_engine.grammar_mask import GrammarMask
from worker.chat.transformers_engine.grammars import Grammars
from worker.chat.transformers_engine.raw_logprobs import RawLogprobs
from worker.chat.transformers_engine.salted_cache import SaltedCache
from worker.chat.transformers_engine.sampling import sampling_options, sampling_processors
from worker.devices import memory
from worker.jobs.errors import EngineFailed
from worker.jobs.readings import EngineStats

log = logging.getLogger(__name__)

#: Tokens per block of the cache. Prompts share prefixes in whole blocks.
PAGE_TOKENS = 32

#: The most input tokens of one step. A longer prompt is split over several steps, so that other requests wait
#: no longer than one such step takes. Each step also moves an attention mask with this many rows.
STEP_TOKENS = 256


class GenerationListener(Protocol):
    """A listener of the generation thread, which calls all methods."""

    def before_step(self) -> None:
        """Prepare for a step, or for a wait for work."""

    def on_cache_search(self, key: str, cached_tokens: int) -> None:
        """Learn how many tokens of a request are in the cache, before its first output."""

    def on_outputs(self, outputs: Sequence[GenerationOutput]) -> None:
        """Receive all outputs of one step, or the output of a single request that failed."""

    def on_out_of_memory(self, keys: Sequence[str]) -> None:
        """End the requests with these keys: there was no memory for them. All others continue."""

    def on_end(self, error: BaseException | None) -> None:
        """Learn that the thread ends: because of an error, or because it was stopped."""


class StepManager(ContinuousBatchingManager):
    """transformers' manager with our samplers and with one listener for all outputs.

    transformers' own manager differs in three ways. It delivers outputs to a queue or to asyncio callbacks,
    request by request. It reports nothing when a request is canceled. Its thread dies of any error, and then
    it only logs the error.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: ContinuousBatchingConfig,
        listener: GenerationListener,
        files: ModelFiles,
    ) -> None:
        # transformers only warns about such a model. Its attention would see nothing of earlier steps.
        if not model._can_set_attn_implementation():
            name = type(model).__name__
            raise EngineFailed(f"transformers does not batch {name} continuously: try the engine vllm")
        greedy = GenerationConfig(do_sample=False)  # type: ignore[no-untyped-call]
        super().__init__(model, greedy, config)  # type: ignore[arg-type]  # its own protocol for models
        self._raw_logprobs = RawLogprobs()
        self._grammar_mask = GrammarMask()
        self._grammars = _grammars(model, files)
        self.logit_processor = sampling_processors(
            files.eos_tokens, model.device, self._raw_logprobs, self._grammar_mask
        )
        self.output_router = _StepRouter(listener)
        self._listener = listener
        self._eos_tokens = sorted(files.eos_tokens)
        self._tokenizer = files.prompt_template.tokenizer
        self._preemptions = 0

    @property
    def has_grammars(self) -> bool:
        """True if the manager can enforce the grammar of a structured answer."""
        return self._grammars is not None

    @property
    def batch_tokens(self) -> int:
        """The most input tokens of one step."""
        return self.continuous_batching_config.max_batch_tokens or 1

    def enqueue(self, admitted: AdmittedRequest) -> None:
        """Queue a request. Its outputs carry `admitted.key`; there are none if the thread has ended.

        The caller's thread compiles the grammar of a structured answer. Raises `InvalidStructure`.
        """
        request = admitted.request
        grammar = self._grammars.start_answer(request) if self._grammars else None
        self.add_request(
            [*request.prompt, *request.generated_ids],
            admitted.key,
            max_new_tokens=admitted.max_new_tokens,
            streaming=True,
            eos_token_id=[] if request.sampling.ignore_eos else self._eos_tokens,
            **sampling_options(request, secrets.randbits(63), self._tokenizer, grammar),
        )

    def take_candidates(self, key: str, tokens: Sequence[int]) -> Sequence[Candidates]:
        """Return the candidates of the new token of a request; none if it asks for none."""
        if len(tokens) != 1 or (found := self._raw_logprobs.take(key, tokens[0])) is None:
            return ()
        return [found]

    def take_grammar_failure(self, key: str) -> bool:
        """Return whether the last step has shown that the grammar of a request is too complex."""
        return self._grammar_mask.take_failure(key)

    def stats(self) -> EngineStats:
        """Return the use of the cache, and the counts since the start. Any thread may call this."""
        if (processor := self.batch_processor) is None:  # the thread has not started yet
            return EngineStats()
        cache = cast(SaltedCache, processor.cache)
        return EngineStats(cache.usage, cache.queries, cache.hits, self._preemptions)

    def wake(self) -> None:
        """Wake the thread if it waits for work."""
        self._wake_up_loop.set()

    def _create_batch_processor(self) -> ContinuousBatchProcessor:
        processor = super()._create_batch_processor()
        cache = processor.cache
        cache.__class__ = SaltedCache  # transformers has no way to choose the class of the cache
        cast(SaltedCache, cache).on_search = self._listener.on_cache_search
        return processor

    def _generation_loop_body(self, batch_processor: ContinuousBatchProcessor, bootstrapping: bool) -> bool:
        self._listener.before_step()
        return super()._generation_loop_body(batch_processor, bootstrapping)

    def _generation_step(self) -> None:
        try:
            super()._generation_step()
            return
        except Exception as error:
            if not memory.is_shortage(error):
                raise
            log.exception("not enough memory for a step")
        # Outside of the except block the traceback is gone, and with it the references to the step's tensors.
        self._recover_from_shortage()

    def _recover_from_shortage(self) -> None:
        """Drop some requests, and requeue all others with their prompts and the answers so far.

        Dropped are the running requests without a token since they were last queued, because they made the
        step larger. If there are none, all running requests are dropped. So each failure leaves fewer
        requests. The cache and, on CUDA, the step in flight are discarded, because the failed step may have
        left them incomplete.
        """
        processor = cast(ContinuousBatchProcessor, self.batch_processor)  # not None: it ran the failed step
        scheduler = processor.scheduler
        running, waiting = scheduler.active_requests, scheduler.waiting_requests
        dropped = [key for key, state in running.items() if not state.generated_tokens] or list(running)
        processor.reset()
        processor.cache.reset()
        self._preemptions += len(running) - len(dropped)
        for key, state in (running | waiting).items():
            if key not in dropped:
                scheduler.add_waiting_request(state.create_equivalent_initial_request())
        memory.free(self.model.device.type)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()  # the reset and the next step use different streams
        self._listener.on_out_of_memory(dropped)

    def _fail_all_remaining_requests(
        self, error: Exception, batch_processor: ContinuousBatchProcessor | None
    ) -> None:
        """Do nothing: the listener's `on_end` ends these requests, as lost with the engine (`EngineDied`)."""

    def _run_generation_loop(self) -> None:
        error: BaseException | None = None
        try:
            super()._run_generation_loop()
        except BaseException as escaped:  # transformers' loop handles only Exception
            error = escaped
        self._listener.on_end(error or self.background_thread_status.fatal_error)


def _grammars(model: PreTrainedModel, files: ModelFiles) -> Grammars | None:
    """Return the grammars of the model's tokenizer; None on CUDA, or if llguidance cannot read it."""
    if model.device.type != "cpu":
        return None
    vocabulary = model.config.get_text_config().vocab_size
    tokenizer = grammar_tokenizer(files.prompt_template, files.eos_tokens, vocabulary)
    return Grammars(tokenizer) if tokenizer else None


class _StepRouter(OutputRouter):
    """An output router that gives all outputs of a step to the listener in one call."""

    def __init__(self, listener: GenerationListener) -> None:
        super().__init__()
        self._listener = listener

    def deliver(self, output: GenerationOutput) -> None:
        self._listener.on_outputs([output])

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        self._listener.on_outputs(outputs)


def batching_config(device: str, slots: int, context_length: int) -> ContinuousBatchingConfig:
    """Make a configuration for `slots` sequences of `context_length` tokens.

    - Cache: all these sequences and the input of one more step.

    - Safety margin: the share of that one step's input in the cache. When less is free, transformers drops
      the blocks that it keeps only for sharing, so these never make a new request wait.
    - CUDA graphs and working one step ahead: on CUDA transformers uses them without flash attention only on
      request. With 64 requests at once on an H200, a step takes 14 ms with them instead of 77 ms.
    - Sharing of blocks: off on CUDA. A canceled request may still be in flight there, and transformers 5.23
      dies when such a request completes a block (observed: KeyError in mark_complete_blocks).
    """
    cuda = device != "cpu"
    step_tokens = max(slots, min(STEP_TOKENS, context_length))
    step_blocks = ceil(step_tokens / PAGE_TOKENS) + slots
    blocks = slots * ceil(context_length / PAGE_TOKENS) + step_blocks
    return ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=blocks,
        max_batch_tokens=step_tokens,
        max_requests_per_batch=slots,
        safety_margin=step_blocks / blocks,
        use_cuda_graph=cuda,
        use_async_batching=cuda,
        allow_block_sharing=not cuda,
        per_request_processors=True,
    )
