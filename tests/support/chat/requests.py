"""Makes requests to chat engines."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from worker.chat.engine import ChatRequest
from worker.jobs.chat.sampling import SamplingParams

__all__ = ["chat_request", "with_sampling"]


def chat_request(
    id_: str,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    generated_ids: tuple[int, ...] = (),
    cache_salt: str = "",
    **sampling: Any,
) -> ChatRequest:
    """Return a request with these sampling parameters."""
    params = SamplingParams(max_tokens=max_tokens, **sampling)
    return ChatRequest(id_, prompt, params, generated_ids, cache_salt)


def with_sampling(request: ChatRequest, **changes: Any) -> ChatRequest:
    """Return the request with other sampling parameters."""
    return replace(request, sampling=request.sampling.model_copy(update=changes))
