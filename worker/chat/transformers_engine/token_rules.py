"""Bias, penalties and bad words per request, for transformers' continuous batching on the CPU."""

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.continuous_batching.requests import FutureRequestState

from worker.chat.token_rules import Rules

__all__ = ["TokenRules"]


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
