"""Minimum length, temperature, top-p and seed per request, for transformers' continuous batching.

Sampling uses the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka, "A* Sampling", 2014): the argmax
of logits plus independent Gumbel noise is a draw from softmax(logits). The engine takes the argmax of every
row, and rows that sample get noise first. The noise depends only on (seed, position, token), so a request
draws the same tokens alone, beside other requests, and in a later attempt.

The processors subclass classes of transformers' continuous batching that are not a public interface.
"""

from collections.abc import Collection
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
    ContinuousBatchingTemperatureLogitsWarper,
    ContinuousBatchingTopPLogitsWarper,
)
from transformers.generation.continuous_batching.requests import FutureRequestState
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from worker.chat.engine import GREEDY_BELOW, ChatRequest
from worker.chat.transformers_engine.gumbel import GREEDY, gumbel_noise, noise_key
from worker.jobs.sampling import COMMON_PARAMETERS

#: The sampling parameters that this engine obeys (`ChatEngine.supports`).
SUPPORTED = COMMON_PARAMETERS
#: On the CPU, top-p looks for the nucleus among this many of the likeliest tokens.
HEAD_TOKENS = 1024


def sampling_options(request: ChatRequest, random_seed: int) -> dict[str, Any]:
    """Return the options of `add_request` that make the processors below sample as the request asks.

    Without the option "seed" a request is greedy. A request that samples but has no seed gets `random_seed`.
    """
    given = request.sampling
    length = {"eos_from": len(request.prompt) + given.min_tokens} if given.min_tokens else {}
    if given.temperature < GREEDY_BELOW:
        return length
    seed = random_seed if given.seed is None else given.seed
    return length | {"temperature": given.temperature, "top_p": given.top_p, "seed": seed}


def sampling_processors(
    eos_tokens: Collection[int], device: torch.device | None = None
) -> ContinuousBatchingLogitsProcessorList:
    """Make the processors, in this order: minimum length, temperature, top-p, noise.

    Each reads its arguments from the options of the request.
    """
    processors = [
        MinLength(torch.tensor(sorted(eos_tokens), dtype=torch.int64, device=device)),
        ContinuousBatchingTemperatureLogitsWarper(TemperatureLogitsWarper(1.0)),
        TopP(TopPLogitsWarper(1.0)),
        GumbelNoise(),
    ]
    batch = ContinuousBatchingLogitsProcessorList(LogitsProcessorList(processors))
    batch.tensors_required = len(processors)  # the list itself counts only processors that it has converted
    return batch


class MinLength(ContinuousBatchingLogitsProcessor):
    """A processor that suppresses end-of-sequence tokens before the position `eos_from` of a request.

    Requests without that option may end at any position.
    """

    supported_kwargs = {"eos_from": int}  # noqa: RUF012
    ignored_kwargs = ()

    _idle = False

    def __init__(self, eos_tokens: torch.Tensor) -> None:
        self._eos_tokens = eos_tokens

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Fill in the arguments of padding rows, which may end."""
        int32_tensor.fill_(0)

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Return 1 for each row that must not end yet and 0 for all others, shape (rows,), int32."""
        states = [request.state for request in requests_with_new_token]
        early = [state.position_offset < state.logit_processor_kwargs.get("eos_from", 0) for state in states]
        self._idle = not any(early)
        return torch.tensor(early, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (rows, vocabulary), with early end-of-sequence tokens at minus infinity."""
        if self._idle and _is_host(scores):
            return scores
        early = tensor_arg[: scores.size(0)].unsqueeze(-1) != 0
        ends = scores[:, self._eos_tokens].masked_fill(early, -torch.inf)
        return scores.index_copy(1, self._eos_tokens, ends)


class TopP(ContinuousBatchingTopPLogitsWarper):
    """transformers' top-p processor with a faster way on the CPU.

    transformers sorts the whole vocabulary of every row. For 16 rows of 49,152 tokens that takes 30 ms on the
    CPU, a quarter of a step. This class takes 5 ms.
    """

    _idle = False

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Return the top-p of each row, shape (rows,), as the bits of a float32 in an int32."""
        arguments = super().prepare_tensor_args(requests_with_new_token)
        self._idle = bool((arguments.view(torch.float32) >= 1.0).all())
        return arguments

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (rows, vocabulary), with tokens outside of the nucleus at minus infinity."""
        if not _is_host(scores):
            return super().__call__(scores, tensor_arg)
        return scores if self._idle else self._by_head(scores, tensor_arg[: scores.size(0)])

    def _by_head(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Look for the nucleus of each row among the likeliest `HEAD_TOKENS` tokens.

        Rows with a larger nucleus go to transformers' own processor.
        """
        top_p = tensor_arg.view(torch.float32).unsqueeze(-1)
        head = scores.topk(min(HEAD_TOKENS, scores.size(-1))).values
        mass = (head - scores.logsumexp(-1, keepdim=True)).exp().cumsum(-1)
        size = (mass < top_p).sum(-1, keepdim=True) + 1  # the nucleus ends with the token that reaches top_p
        least = head.gather(-1, size.clamp(max=head.size(-1)) - 1).masked_fill(top_p >= 1.0, -torch.inf)
        kept = scores.masked_fill(scores < least, -torch.inf)
        large = ((size > head.size(-1)) & (top_p < 1.0)).squeeze(-1)
        if large.any():
            kept[large] = super().__call__(scores[large], tensor_arg[large])
        return kept


class GumbelNoise(ContinuousBatchingLogitsProcessor):
    """A processor that adds Gumbel noise to the rows of requests with a seed. Other rows stay greedy."""

    supported_kwargs = {"seed": int}  # noqa: RUF012
    ignored_kwargs = ()

    _idle = False

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Fill in the arguments of padding rows, which are greedy."""
        int32_tensor.fill_(GREEDY)

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Return the noise key of each row, shape (rows,), int32.

        transformers has already moved `position_offset` past this step's input. So it is the absolute
        position of the token about to be drawn, also with split prefills, shared prefixes and asynchronous
        batches.
        """
        states = [request.state for request in requests_with_new_token]
        keys = [
            noise_key(state.logit_processor_kwargs.get("seed"), state.position_offset) for state in states
        ]
        self._idle = all(key == GREEDY for key in keys)
        return torch.tensor(keys, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Return scores plus noise, shape (rows, vocabulary), float32."""
        if self._idle and _is_host(scores):
            return scores
        keys = tensor_arg[: scores.size(0)].unsqueeze(-1)
        return torch.where(keys == GREEDY, scores, scores + gumbel_noise(keys, scores.size(-1)))


def _is_host(scores: torch.Tensor) -> bool:
    """Return True on the CPU, where a processor may skip idle work.

    On CUDA it may not: a captured graph must be right for every later batch.
    """
    return scores.device.type == "cpu"
