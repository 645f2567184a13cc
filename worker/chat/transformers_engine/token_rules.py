"""Bias, penalties and bad words per request, for transformers' continuous batching on the CPU.

The formulas and their order are those of vLLM: bad words, bias, repetition penalty, frequency penalty, then
presence penalty (0.32: vllm/v1/sample/sampler.py, vllm/model_executor/layers/utils.py). The frequency and
presence penalties are also those of OpenAI (platform.openai.com/docs/api-reference/parameter-details).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.continuous_batching.requests import FutureRequestState

from worker.chat.engine import ChatRequest
from worker.jobs.sampling import SamplingParams

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Rules", "TokenRules", "rules_of"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one request. Its first `prompt_tokens` tokens are the prompt, the later ones the answer.

    So the rules also hold for the tokens that an earlier attempt generated. `bad_words` are sequences of
    token ids, of which none may be completed.
    """

    prompt_tokens: int
    sampling: SamplingParams
    bad_words: Sequence[Sequence[int]]

    def apply(self, scores: torch.Tensor, tokens: Sequence[int]) -> None:
        """Change the scores of the next token in place, shape (vocabulary,).

        `tokens` are those of the prompt and the answer so far.
        """
        given, answer = self.sampling, tokens[self.prompt_tokens :]
        for *start, last in self.bad_words:
            if not start or list(answer[-len(start) :]) == start:
                scores[last] = -torch.inf
        if given.logit_bias:
            ids = torch.tensor([int(token) for token in given.logit_bias])
            scores[ids] += torch.tensor(list(given.logit_bias.values()), dtype=scores.dtype)
        if given.repetition_penalty != 1:
            ids = torch.tensor(list(set(tokens)))
            said = scores[ids]
            scores[ids] = torch.where(
                said > 0, said / given.repetition_penalty, said * given.repetition_penalty
            )
        if answer and (given.frequency_penalty or given.presence_penalty):
            counts = Counter(answer)
            times = torch.tensor(list(counts.values()))
            scores[list(counts)] -= given.frequency_penalty * times + given.presence_penalty


def rules_of(request: ChatRequest, tokenizer: "Tokenizer | None") -> Rules | None:
    """Return the rules of a request; None if it asks for none."""
    given = request.sampling
    penalties = given.presence_penalty or given.frequency_penalty or given.repetition_penalty != 1
    if not (penalties or given.logit_bias or given.bad_words):
        return None
    bad_words = [ids for word in given.bad_words for ids in _spellings(word, tokenizer)] if tokenizer else []
    return Rules(len(request.prompt), given, bad_words)


def _spellings(word: str, tokenizer: "Tokenizer") -> Iterator[list[int]]:
    """Yield the token ids of a bad word, at the start of a text and behind a space.

    As in vLLM (`SamplingParams.update_from_tokenizer`), the second form counts only if the space becomes a
    part of the first token.
    """
    plain, spaced = (tokenizer.encode(text, add_special_tokens=False).ids for text in _forms(word))
    if plain:
        yield plain
    if spaced and plain and spaced[0] != plain[0] and len(spaced) == len(plain):
        yield spaced


def _forms(word: str) -> tuple[str, str]:
    return word.lstrip(), f" {word.lstrip()}"


class TokenRules(ContinuousBatchingLogitsProcessor):
    """A processor that applies the `rules` of each request. It runs only on the CPU.

    There transformers takes one step after the other, so that all earlier tokens are known before a step. The
    rules are Python objects, for which the processor needs no tensor.
    """

    supported_kwargs = {"rules": Rules}  # noqa: RUF012
    ignored_kwargs = ()

    def __init__(self) -> None:
        #: The row, the rules and the tokens of each request of the next step that has rules.
        self._rows: list[tuple[int, Rules, list[int]]] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Fill in the arguments of padding rows, which have no rules."""
        int32_tensor.fill_(0)

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Note the rules of each row, and return zeros, shape (rows,), int32."""
        states = [request.state for request in requests_with_new_token]
        self._rows = [
            (row, rules, [*state.initial_tokens, *state.generated_tokens])
            for row, state in enumerate(states)
            if (rules := state.logit_processor_kwargs.get("rules"))
        ]
        return torch.zeros(len(states), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (rows, vocabulary), as the rules change them."""
        if self._rows:
            scores = scores.clone()
        for row, rules, tokens in self._rows:
            rules.apply(scores[row], tokens)
        return scores
