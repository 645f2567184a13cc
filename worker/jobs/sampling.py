"""The sampling parameters of a chat. API, stored jobs and engines share this one definition."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

__all__ = ["COMMON_PARAMETERS", "TO_CONTEXT_END", "SamplingParams", "unsupported"]

#: The `max_tokens` of an answer that is limited only by the model's context. No context is this long.
TO_CONTEXT_END = 2**31 - 1

Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class SamplingParams(BaseModel):
    """How the tokens of an answer are chosen, and when the answer ends.

    The docstring below a field is its description in the API. A field whose value is the default asks an
    engine for nothing special, so that engines without it can ignore it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    max_tokens: int = Field(256, ge=1, le=TO_CONTEXT_END)
    """The most tokens of the answer. The model's context may end it earlier."""
    min_tokens: int = Field(0, ge=0, le=TO_CONTEXT_END)
    """Neither the model nor a text in `stop` can end the answer before it has this many tokens."""
    ignore_eos: bool = False
    """With true, the model cannot end the answer itself. It then ends at `max_tokens` or before a text in
    `stop`."""
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    """How much chance decides. With 0 each token is the likeliest one (greedy)."""
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    """Tokens are drawn from the smallest set of tokens that together have at least this probability."""
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """The same seed draws the same token at the same position of the same chat, whatever else runs. Null
    means a random seed."""
    stop: Annotated[
        list[Stop],
        Field(max_length=4),
        BeforeValidator(_listed, json_schema_input_type=Stop | Annotated[list[Stop], Field(max_length=4)]),
    ] = []
    """The answer ends before the first of these texts, and does not contain it."""


#: The parameters that every engine supports. They are also those of a worker that does not publish any,
#: because it is older than the statement.
COMMON_PARAMETERS = frozenset(
    {"max_tokens", "min_tokens", "ignore_eos", "temperature", "top_p", "seed", "stop"}
)

_DEFAULTS = {name: field.default for name, field in SamplingParams.model_fields.items()}


def unsupported(params: SamplingParams, supported: Collection[str]) -> Sequence[str]:
    """Return the names of the parameters that are not `supported` although they differ from the default."""
    return [
        name
        for name, default in _DEFAULTS.items()
        if name not in supported and getattr(params, name) != default
    ]
