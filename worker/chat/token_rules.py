"""Bias, penalties and bad words: how they change the scores of a request's next token.

The formulas and their order are those of vLLM: bad words, bias, repetition penalty, frequency penalty, then
presence penalty (0.32: vllm/v1/sample/sampler.py, vllm/model_executor/layers/utils.py). The frequency and
presence penalties are also those of OpenAI (platform.openai.com/docs/api-reference/parameter-details).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from worker.chat.bad_words import bad_word_ids
from worker.chat.engine import ChatRequest
from worker.jobs.chat.sampling import SamplingParams

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Rules", "rules_of"]


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
    return Rules(len(request.prompt), given, bad_word_ids(given, tokenizer) if tokenizer else [])
