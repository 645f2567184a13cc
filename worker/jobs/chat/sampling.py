"""The sampling parameters of a chat. API, stored jobs and engines share this one definition."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from worker.jobs.chat.nullable import Nullable
from worker.jobs.chat.structured_outputs import ResponseFormat, StructuredOutputs

__all__ = ["COMMON_PARAMETERS", "STRUCTURE_PARAMETERS", "TO_CONTEXT_END", "SamplingParams", "unsupported"]

#: The `max_tokens` of an answer that is limited only by the model's context. No context is this long.
TO_CONTEXT_END = 2**31 - 1

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
#: Space at the start of a bad word does not count, so that a text of spaces would forbid nothing.
BadWord = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"\S")]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
#: JSON has only texts as the names of an object's members.
TokenIdText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _asked(outputs: Any) -> Any:
    """Return None for structured outputs that ask for nothing."""
    nothing = isinstance(outputs, dict) and all(value in (None, False) for value in outputs.values())
    return None if nothing else outputs


def _unless_text(form: ResponseFormat | None) -> ResponseFormat | None:
    return None if form and form.type == "text" else form


class SamplingParams(Nullable):
    """How the tokens of an answer are chosen, and when the answer ends.

    A field whose value is the default asks an engine for nothing special, so that engines without it can
    ignore it.
    """

    max_tokens: int = Field(256, ge=1, le=TO_CONTEXT_END)
    """The most tokens of the answer. The model's context may end it earlier."""
    response_format: Annotated[ResponseFormat | None, AfterValidator(_unless_text)] = Field(
        None, exclude=True, repr=False
    )
    """The form of the answer in OpenAI's words. It is stored as `structured_outputs`."""
    structured_outputs: Annotated[StructuredOutputs | None, BeforeValidator(_asked)] = Field(
        None, validate_default=True, repr=False
    )
    """What the answer must be. `max_tokens` or `stop` may still end it earlier."""
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
        list[ShortText],
        Field(max_length=4),
        BeforeValidator(
            _listed, json_schema_input_type=ShortText | Annotated[list[ShortText], Field(max_length=4)]
        ),
    ] = Field([])
    """The answer ends before the first of these texts, and does not contain it."""
    include_stop_str_in_output: bool = False
    """With true, the answer contains the text that has ended it: that in `stop`, or that of the token in
    `stop_token_ids`."""
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] = Field([])
    """The answer ends with the first of these tokens after `min_tokens` tokens. The token's text is not part
    of it."""
    top_k: Annotated[int, Field(ge=-1, lt=2**31), AfterValidator(lambda k: max(k, 0))] = 0
    """Tokens are drawn from this many of the likeliest ones. Both 0 and -1 mean all tokens."""
    min_p: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    """Tokens are drawn from those that have at least this share of the likeliest token's probability."""
    presence_penalty: Penalty = 0.0
    """This number is subtracted from the logit of each token that the answer already contains. The prompt
    does not count."""
    frequency_penalty: Penalty = 0.0
    """This number is subtracted from the logit of a token once for each time that the answer already contains
    the token. The prompt does not count."""
    repetition_penalty: float = Field(1.0, ge=0.01, le=100, allow_inf_nan=False)
    """The logit of each token that the prompt or the answer already contains is divided by this number if it
    is positive, and multiplied by it if it is negative."""
    logit_bias: Annotated[dict[TokenIdText, Bias], Field(max_length=1024)] = Field({})
    """These numbers are added to the logits of these tokens. The names are token ids."""
    bad_words: Annotated[list[BadWord], Field(max_length=64)] = Field([])
    """The answer contains none of these texts, neither at the start of a word nor behind a space. A text that
    is written with other tokens than its usual ones is not recognised."""

    n: int = Field(1, ge=1, le=8)
    """The number of answers (choices). Each has a seed of its own: `seed` plus its index, from 0. The chat
    counts as this many jobs for the turns and caps of its API key, and for the slots of its worker."""

    logprobs: bool = False
    """With true, the answer's `token` events have the log-probabilities of its tokens."""
    top_logprobs: int = Field(0, ge=0, le=20)
    """With `logprobs`: the events also have this many of the likeliest tokens at each place."""
    return_token_ids: bool = False
    """With true, the answer's `token` events have the ids of its tokens, and the first event those of the
    prompt."""

    @field_validator("structured_outputs")
    @classmethod
    def _or_response_format(
        cls, outputs: StructuredOutputs | None, fields: ValidationInfo
    ) -> StructuredOutputs | None:
        form = fields.data.get("response_format")
        if outputs and form:
            raise PydanticCustomError("structured_outputs", "may not be given beside response_format")
        return outputs or (form.structured_outputs if form else None)

    @field_validator("min_tokens", "ignore_eos", "bad_words")
    @classmethod
    def _without_structure(cls, value: Any, fields: ValidationInfo) -> Any:
        """Refuse what may leave no token that the structure allows."""
        if value and fields.data.get("structured_outputs"):
            raise PydanticCustomError("structured_outputs", "may not be given for a structured answer")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, top: int, fields: ValidationInfo) -> int:
        if top and not fields.data.get("logprobs"):
            raise PydanticCustomError("logprobs", "top_logprobs needs logprobs to be true")
        return top

    def asked(self) -> list[str]:
        """Return the names of the parameters that ask an engine for something special."""
        return [name for name, default in _DEFAULTS.items() if getattr(self, name) != default]


#: The parameters that every engine supports. They are also those of a worker that does not publish any,
#: because it is older than the statement.
COMMON_PARAMETERS = frozenset(
    {"max_tokens", "min_tokens", "ignore_eos", "temperature", "top_p", "seed", "stop"}
)

#: The parameters of structured answers, which an engine supports together.
STRUCTURE_PARAMETERS = frozenset({"response_format", "structured_outputs"})

_DEFAULTS = {name: field.default for name, field in SamplingParams.model_fields.items()}


def unsupported(params: SamplingParams, supported: Collection[str]) -> Sequence[str]:
    """Return the names of what the chat asks for and is not `supported`."""
    return [name for name in params.asked() if name not in supported]
