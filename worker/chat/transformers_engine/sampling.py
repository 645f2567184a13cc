"""The sampling parameters of each request, for transformers' continuous batching.

Sampling uses the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka, "A* Sampling", 2014): the argmax
of logits plus independent Gumbel noise is a draw from softmax(logits). The engine takes the argmax of every
row, and rows that sample get noise first. The noise depends only on (seed, position, token), so a request
draws the same tokens alone, beside other requests, and in a later attempt.

The processors subclass classes of transformers' continuous batching that are not a public interface.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
    ContinuousBatchingTemperatureLogitsWarper,
)
from transformers.generation.continuous_batching.requests import FutureRequestState
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from worker.chat.engine import GREEDY_BELOW, ChatRequest
from worker.chat.token_rules import rules_of
from worker.chat.transformers_engine.grammar_mask import GrammarMask
from worker.chat.transformers_engine.grammars import AnswerGrammar
from worker.chat.transformers_engine.gumbel import GREEDY, gumbel_noise, noise_key
from worker.chat.transformers_engine.likely_tokens import MinP, TopK, TopP, is_host
from worker.chat.transformers_engine.raw_logprobs import RawLogprobs
from worker.chat.transformers_engine.token_rules import TokenRules
from worker.jobs.chat.sampling import COMMON_PARAMETERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: The sampling parameters that this engine obeys on CUDA (`ChatEngine.supports`). The others would need
#: further processors in the captured graphs, or the tokens of a step that has not ended yet.
SUPPORTED_ON_CUDA = COMMON_PARAMETERS | {"stop_token_ids", "include_stop_str_in_output"}
#: The sampling parameters that this engine obeys on the CPU.
SUPPORTED_ON_CPU = SUPPORTED_ON_CUDA | {
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "bad_words",
    "logprobs",
    "top_logprobs",
}


def sampling_options(
    request: ChatRequest,
    random_seed: int,
    tokenizer: "Tokenizer | None" = None,
    grammar: AnswerGrammar | None = None,
) -> dict[str, Any]:
    """Return the options of `add_request` that make the processors below sample as the request asks.

    Without the option "seed" a request is greedy. A request that samples but has no seed gets `random_seed`.
    Only a request with `bad_words` needs the `tokenizer`. `grammar` is that of a structured answer.
    """
    given = request.sampling
    options: dict[str, Any] = {}
    if given.min_tokens:
        options["eos_from"] = len(request.prompt) + given.min_tokens
    if rules := rules_of(request, tokenizer):
        options["rules"] = rules
    if grammar:
        options["grammar"] = grammar
    if given.logprobs:
        options["top_logprobs"] = given.top_logprobs
    if given.temperature < GREEDY_BELOW:
        return options
    seed = random_seed if given.seed is None else given.seed
    options |= {"temperature": given.temperature, "top_p": given.top_p, "seed": seed}
    return options | {name: value for name in ("min_p", "top_k") if (value := getattr(given, name))}


def sampling_processors(
    eos_tokens: Collection[int],
    device: torch.device | None = None,
    raw_logprobs: RawLogprobs | None = None,
    grammar_mask: GrammarMask | None = None,
) -> ContinuousBatchingLogitsProcessorList:
    """Make the processors, which read their arguments from the options of each request.

    Their order is that of vLLM. On CUDA there are no log-probabilities, no grammars, no rules, no min-p and
    no top-k.
    """
    cpu = device is None or device.type == "cpu"
    processors = [
        *([raw_logprobs or RawLogprobs(), grammar_mask or GrammarMask(), TokenRules()] if cpu else []),
        MinLength(torch.tensor(sorted(eos_tokens), dtype=torch.int64, device=device)),
        ContinuousBatchingTemperatureLogitsWarper(TemperatureLogitsWarper(1.0)),
        *([MinP(), TopK()] if cpu else []),
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
        if self._idle and is_host(scores):
            return scores
        early = tensor_arg[: scores.size(0)].unsqueeze(-1) != 0
        ends = scores[:, self._eos_tokens].masked_fill(early, -torch.inf)
        return scores.index_copy(1, self._eos_tokens, ends)


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
        if self._idle and is_host(scores):
            return scores
        keys = tensor_arg[: scores.size(0)].unsqueeze(-1)
        return torch.where(keys == GREEDY, scores, scores + gumbel_noise(keys, scores.size(-1)))
