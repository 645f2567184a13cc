"""Describes the log-probabilities of an engine's tokens for clients."""

from typing import TYPE_CHECKING

from worker.chat.engine import Candidates
from worker.jobs.chat.logprobs import TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["describe"]

#: JSON has no infinity. vLLM's server gives this number for tokens that cannot be drawn.
LEAST = -9999.0


def describe(candidates: Candidates, top: int, tokenizer: "Tokenizer") -> TokenLogprob:
    """Return the description of the chosen token and of the `top` likeliest ones."""
    chosen, *likeliest = (
        _described(token, logprob, tokenizer) for token, logprob in zip(*candidates, strict=True)
    )
    return {**chosen, "top_logprobs": likeliest[:top]}


def _described(token: int, logprob: float, tokenizer: "Tokenizer") -> TopLogprob:
    text = tokenizer.decode([token], skip_special_tokens=False)
    return {"token": text, "logprob": max(logprob, LEAST), "bytes": list(text.encode())}
