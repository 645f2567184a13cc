"""transformers' continuous batching manager, made to report once a step and to outlive a lack of memory."""

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

from worker.chat.engine import ChatRequest
from worker.chat.transformers_engine.sampling import sampling_options, sampling_processors
from worker.devices import memory
from worker.jobs.errors import EngineFailed

log = logging.getLogger(__name__)

#: Tokens of one block of the cache, and the granularity at which prompts share a prefix.
PAGE_TOKENS = 32

#: Tokens one step may take in. A longer prompt is split, so that the others wait no longer than this takes;
#: and each step moves an attention mask of this many rows.
STEP_TOKENS = 256


class StepListener(Protocol):
    """Who hears of the generation thread; all of it is called from there."""

    def before_step(self) -> None:
        """A step, or a wait for work, is about to begin."""

    def on_outputs(self, outputs: Sequence[GenerationOutput]) -> None:
        """Everything that one step produced, or a request that failed alone."""

    def on_out_of_memory(self, keys: Sequence[str]) -> None:
        """There was no memory for these requests; all others go on."""

    def on_end(self, error: BaseException | None) -> None:
        """The thread ends: by an error, or because it was told to."""


class StepManager(ContinuousBatchingManager):
    """The stock manager with its output routed to one listener, and our samplers.

    The stock one delivers to a queue or to asyncio callbacks, a request each; says nothing when a
    request was cancelled; and when its thread dies, as it does of any error, only logs it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: ContinuousBatchingConfig,
        listener: StepListener,
        eos_tokens: frozenset[int],
    ) -> None:
        if not model._can_set_attn_implementation():  # transformers only warns; a step would see itself alone
            name = type(model).__name__
            raise EngineFailed(f"transformers does not batch {name} continuously: try the engine vllm")
        greedy = GenerationConfig(do_sample=False)  # type: ignore[no-untyped-call]
        super().__init__(model, greedy, config)  # type: ignore[arg-type]  # its own protocol for models
        self.logit_processor = sampling_processors(eos_tokens, model.device)
        self.output_router = _StepRouter(listener)
        self._listener = listener
        self._eos_tokens = sorted(eos_tokens)

    @property
    def batch_tokens(self) -> int:
        """Most tokens that one step takes in."""
        return self.continuous_batching_config.max_batch_tokens or 1

    def add(self, key: str, request: ChatRequest, max_tokens: int) -> None:
        """Queue a request, its outputs to come under `key`; none come if the thread has ended."""
        self.add_request(
            [*request.prompt, *request.generated_ids],
            key,
            max_new_tokens=max_tokens,
            streaming=True,
            eos_token_id=[] if request.ignore_eos else self._eos_tokens,
            **sampling_options(request, random_seed=secrets.randbits(63)),
        )

    def wake(self) -> None:
        """End the idle thread's wait for work."""
        self._wake_up_loop.set()

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
        self._recover()  # out here the error is gone, and with its traceback the step's tensors

    def _recover(self) -> None:
        """Give up some requests, and begin anew with the prompts and answers so far of all others.

        Given up are those without a token since they were (re)queued: the step was larger for them; or all
        that run, if there are none such. So every failure leaves fewer requests. Nothing that the step may
        have left half done is kept: neither the cache nor, on CUDA, the step in flight.
        """
        processor = cast(ContinuousBatchProcessor, self.batch_processor)  # there is one: it took the step
        scheduler = processor.scheduler
        running, waiting = scheduler.active_requests, scheduler.waiting_requests
        lost = [key for key, state in running.items() if not state.generated_tokens] or list(running)
        processor.reset()
        processor.cache.reset()
        for key, state in (running | waiting).items():
            if key not in lost:
                scheduler.add_waiting_request(state.create_equivalent_initial_request())
        memory.free(self.model.device.type)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()  # the reset ran on another stream than the next step
        self._listener.on_out_of_memory(lost)

    def _fail_all_remaining_requests(
        self, error: Exception, batch_processor: ContinuousBatchProcessor | None
    ) -> None:
        """Leave it to the listener's `on_end`, which tells a lost engine from a request that failed."""

    def _run_generation_loop(self) -> None:
        error: BaseException | None = None
        try:
            super()._run_generation_loop()
        except (
            BaseException
        ) as escaped:  # the stock loop handles Exception; what else ends the thread counts too
            error = escaped
        self._listener.on_end(error or self.background_thread_status.fatal_error)


class _StepRouter(OutputRouter):
    """Hands a step's outputs over together."""

    def __init__(self, listener: StepListener) -> None:
        super().__init__()
        self._listener = listener

    def deliver(self, output: GenerationOutput) -> None:
        self._listener.on_outputs([output])

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        self._listener.on_outputs(outputs)


def batching_config(device: str, slots: int, context_length: int) -> ContinuousBatchingConfig:
    """A cache that holds `slots` sequences of `context_length` tokens and one step's input more.

    The margin is that step's share: under it, transformers drops the blocks it keeps only to share
    them, so that these never make a new request wait. On CUDA, graphs and working a step ahead must be
    asked for without flash attention (H200, 64 at once: 14 ms a step instead of 77). Sharing stays off
    there: a cancelled request may be in flight, and transformers 5.23 dies when its block completes
    (KeyError in mark_complete_blocks, seen).
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
