"""Keeps the model's log-probabilities of each step, for transformers' continuous batching on the CPU."""

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.continuous_batching.requests import FutureRequestState

from worker.chat.engine import Candidates

__all__ = ["RawLogprobs"]


class RawLogprobs(ContinuousBatchingLogitsProcessor):
    """The first processor: it changes nothing, and keeps the scores of requests with `top_logprobs`.

    transformers' own log-probabilities are those of the chosen token only, after all processors. This class
    runs only on the CPU, where the outputs of a step come before the next step.
    """

    supported_kwargs = {"top_logprobs": int}  # noqa: RUF012
    ignored_kwargs = ()

    def __init__(self) -> None:
        #: The row, the id and the number of likeliest tokens of each request that asks for them.
        self._rows: list[tuple[int, str, int]] = []
        #: Of the last step: its log-probabilities, shape (vocabulary,), and the number of likeliest tokens.
        self._kept: dict[str, tuple[torch.Tensor, int]] = {}

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Fill in the arguments of padding rows, which ask for nothing."""
        int32_tensor.fill_(0)

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Note the rows that ask for log-probabilities, and return zeros, shape (rows,), int32."""
        states = [request.state for request in requests_with_new_token]
        self._rows = [
            (row, state.request_id, top)
            for row, state in enumerate(states)
            if (top := state.logit_processor_kwargs.get("top_logprobs")) is not None
        ]
        return torch.zeros(len(states), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Keep the log-probabilities, and return the scores as they are, shape (rows, vocabulary)."""
        self._kept = {key: (scores[row].float().log_softmax(-1), top) for row, key, top in self._rows}
        return scores

    def take(self, key: str, token: int) -> Candidates | None:
        """Return the candidates of the last step of a request; None if it asks for none."""
        if (kept := self._kept.pop(key, None)) is None:
            return None
        logprobs, top = kept
        likeliest = logprobs.topk(top)
        ids = [token, *likeliest.indices.tolist()]
        return Candidates(ids, [float(logprobs[token]), *likeliest.values.tolist()])
