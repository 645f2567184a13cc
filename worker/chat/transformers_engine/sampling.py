"""Least length, temperature, top-p and seed of each request, for transformers' continuous batching.

Sampling is the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka, "A* Sampling", 2014): the argmax
of logits plus independent Gumbel noise is a draw from softmax(logits). So the engine takes the argmax for
every row, and rows that sample get noise that depends only on (seed, position, token): a request draws the
same tokens alone, in a crowd and in a later attempt.
"""

from collections.abc import Collection
from hashlib import blake2b
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

#: Among how many of the likeliest tokens a nucleus is looked for on the CPU.
HEAD_TOKENS = 1024

#: The key of a row that takes the argmax of its logits as they are.
GREEDY = 0


def sampling_options(request: ChatRequest, random_seed: int) -> dict[str, Any]:
    """The options of `add_request` that sample as the request asks; without a seed that is greedy."""
    least = {"eos_from": len(request.prompt) + request.min_tokens} if request.min_tokens else {}
    if request.temperature < GREEDY_BELOW:
        return least
    seed = random_seed if request.seed is None else request.seed
    return least | {"temperature": float(request.temperature), "top_p": float(request.top_p), "seed": seed}


def sampling_processors(
    eos_tokens: Collection[int], device: torch.device | None = None
) -> ContinuousBatchingLogitsProcessorList:
    """No early end, temperature, top-p, noise: each takes its arguments from the request's options."""
    processors = [
        NoEarlyEnd(torch.tensor(sorted(eos_tokens), dtype=torch.int64, device=device)),
        ContinuousBatchingTemperatureLogitsWarper(TemperatureLogitsWarper(1.0)),
        TopP(TopPLogitsWarper(1.0)),
        GumbelNoise(),
    ]
    batch = ContinuousBatchingLogitsProcessorList(LogitsProcessorList(processors))
    batch.tensors_required = len(processors)  # it counts only those that it converts itself
    return batch


class NoEarlyEnd(ContinuousBatchingLogitsProcessor):
    """Lets no token end the sequence before the position `eos_from`, for requests that have one."""

    supported_kwargs = {"eos_from": int}  # noqa: RUF012
    ignored_kwargs = ()

    _idle = False

    def __init__(self, eos_tokens: torch.Tensor) -> None:
        self._eos_tokens = eos_tokens

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Rows that are padding may end."""
        int32_tensor.fill_(0)

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """1 for each row that must not end yet, shape (rows,), int32."""
        states = [request.state for request in requests_with_new_token]
        early = [state.position_offset < state.logit_processor_kwargs.get("eos_from", 0) for state in states]
        self._idle = not any(early)
        return torch.tensor(early, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary), those of ends at minus infinity where it is too early."""
        if self._idle and _is_host(scores):
            return scores
        early = tensor_arg[: scores.size(0)].unsqueeze(-1) != 0
        ends = scores[:, self._eos_tokens].masked_fill(early, -torch.inf)
        return scores.index_copy(1, self._eos_tokens, ends)


class TopP(ContinuousBatchingTopPLogitsWarper):
    """The stock one, which sorts the whole vocabulary of every row, made cheap on the CPU.

    For 16 rows of 49,152 the stock one takes 30 ms there, a quarter of a step, and this 5 ms.
    """

    _idle = False

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Top-p of each row, shape (rows,), float32 seen as int32."""
        arguments = super().prepare_tensor_args(requests_with_new_token)
        self._idle = bool((arguments.view(torch.float32) >= 1.0).all())
        return arguments

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary), those outside the nucleus at minus infinity."""
        if not _is_host(scores):
            return super().__call__(scores, tensor_arg)
        return scores if self._idle else self._by_head(scores, tensor_arg[: scores.size(0)])

    def _by_head(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Look for each nucleus among the likeliest tokens; rows where it is larger go the stock way."""
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
    """Adds Gumbel noise to the rows of requests that have a seed, and nothing to the others."""

    supported_kwargs = {"seed": int}  # noqa: RUF012
    ignored_kwargs = ()

    _idle = False

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Rows that are padding are greedy."""
        int32_tensor.fill_(GREEDY)

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """The noise key of each row, shape (rows,), int32.

        `position_offset` has already moved past this step's input, so it is the absolute position of
        the token about to be drawn: also with split prefills, shared prefixes and asynchronous batches.
        """
        states = [request.state for request in requests_with_new_token]
        keys = [_key(state.logit_processor_kwargs.get("seed"), state.position_offset) for state in states]
        self._idle = all(key == GREEDY for key in keys)
        return torch.tensor(keys, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary), float32, plus noise."""
        if self._idle and _is_host(scores):
            return scores
        keys = tensor_arg[: scores.size(0)].unsqueeze(-1)
        return torch.where(keys == GREEDY, scores, scores + gumbel_noise(keys, scores.size(-1)))


def gumbel_noise(keys: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Standard Gumbel noise, float32, shape (rows, vocabulary), from int32 keys of shape (rows, 1).

    -log(E) with E = -log(1 - U): the draws that win have U near 0, where float32 is finest. U has 31 bits
    of a counter-based hash, and stays under 1 - 2^-24 so that the noise is finite. Plain tensor
    operations without state: they run on any device and inside CUDA graphs.
    """
    tokens = torch.arange(vocabulary, dtype=torch.int32, device=keys.device)
    bits = _lowbias32(_lowbias32(tokens + 1) ^ keys)
    uniform = ((_shift(bits, 1)).float() + 0.5) * 2.0**-31
    return -torch.log(-torch.log1p(-uniform.clamp(max=1 - 2.0**-24)))


def _key(seed: int | None, position: int) -> int:
    """32 bits of BLAKE2b over seed and position; never GREEDY, which is what no seed gives."""
    if seed is None:
        return GREEDY
    digest = blake2b(f"{seed} {position}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def _lowbias32(x: torch.Tensor) -> torch.Tensor:
    """Chris Wellons' lowbias32 (github.com/skeeto/hash-prospector, 2018) on int32, whose products wrap."""
    x = (x ^ _shift(x, 16)) * 0x7FEB352D
    x = (x ^ _shift(x, 15)) * (0x846CA68B - 2**32)
    return x ^ _shift(x, 16)


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int32 (`>>` copies the sign)."""
    return torch.bitwise_and(x >> bits, 2 ** (32 - bits) - 1)


def _is_host(scores: torch.Tensor) -> bool:
    """Whether work may be skipped by what the host knows: a CUDA graph has to replay for any batch."""
    return scores.device.type == "cpu"
