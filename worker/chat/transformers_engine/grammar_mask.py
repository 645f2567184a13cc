"""Masks the tokens that would break a structured answer, for transformers' continuous batching on the CPU."""

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.continuous_batching.requests import FutureRequestState

from worker.chat.transformers_engine.grammars import AnswerGrammar

__all__ = ["GrammarMask"]


class GrammarMask(ContinuousBatchingLogitsProcessor):
    """A processor that leaves the tokens that the `grammar` of each request allows. It runs only on the CPU.

    There transformers takes one step after the other, so that all earlier tokens are known before a step.
    """

    supported_kwargs = {"grammar": AnswerGrammar}  # noqa: RUF012
    ignored_kwargs = ()

    def __init__(self) -> None:
        #: The row, the id and the grammar of each request of the next step that has one.
        self._rows: list[tuple[int, str, AnswerGrammar]] = []
        #: The requests whose grammars have failed.
        self._failed: set[str] = set()

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Fill in the arguments of padding rows, which have no grammar."""
        int32_tensor.fill_(0)

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Let each grammar follow its answer, and return zeros, shape (rows,), int32."""
        self._rows = []
        for row, request in enumerate(requests_with_new_token):
            state = request.state
            if grammar := state.logit_processor_kwargs.get("grammar"):
                grammar.follow([*state.initial_tokens, *state.generated_tokens])
                self._rows.append((row, state.request_id, grammar))
        return torch.zeros(len(requests_with_new_token), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (rows, vocabulary), with tokens that break a grammar at minus infinity."""
        if self._rows:
            scores = scores.clone()
        for row, key, grammar in self._rows:
            grammar.mask(scores[row])
            if grammar.failed:
                self._failed.add(key)
        return scores

    def take_failure(self, key: str) -> bool:
        """Return whether the grammar of a request has failed in the last step, and forget it."""
        if key not in self._failed:
            return False
        self._failed.remove(key)
        return True
