"""The options of a prompt: how it is made from the messages. API and workers share the definition."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from worker.jobs.chat.bounded_json import bounded
from worker.jobs.chat.tools import ToolOptions

__all__ = ["PromptOptions"]

#: Most bytes of the JSON of `chat_template_kwargs`, and the largest number in it. A template may repeat a
#: text as often as a number says.
MAX_KWARGS = 2**14
MAX_NUMBER = 10**6

VariableName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,63}$")]


class PromptOptions(ToolOptions):
    """How the model's chat template turns the messages of a chat into a prompt."""

    continue_final_message: bool = False
    """With true, the answer continues the last message instead of beginning a new one."""
    add_generation_prompt: bool | None = None
    """With false, the prompt ends after the last message, and the model chooses whose turn is next. Null
    means true, or false with `continue_final_message`."""
    chat_template_kwargs: Annotated[
        dict[VariableName, JsonValue], Field(max_length=32), bounded(MAX_KWARGS)
    ] = Field({}, repr=False)
    """Variables for the model's chat template, such as `enable_thinking`."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """How long the model should think before it answers. It is a hint for the model's chat template, which
    may ignore it."""
    include_reasoning: bool = True
    """With false, the answer comes without the model's reasoning."""
    truncate_prompt_tokens: int | None = Field(None, ge=-1, lt=2**31, json_schema_extra={"not": {"const": 0}})
    """Only this many of the prompt's last tokens are used. With -1 they are as many as fit into the model's
    context beside `max_tokens`."""

    @field_validator("add_generation_prompt")
    @classmethod
    def _one_end(cls, added: bool | None, fields: ValidationInfo) -> bool | None:
        if added and fields.data.get("continue_final_message"):
            raise PydanticCustomError(
                "add_generation_prompt", "cannot be true together with continue_final_message"
            )
        return None if added else added  # true is the default, which is not stored

    @field_validator("truncate_prompt_tokens")
    @classmethod
    def _some(cls, tokens: int | None) -> int | None:
        if tokens == 0:
            raise PydanticCustomError("truncate_prompt_tokens", "a prompt needs at least one token")
        return tokens

    @field_validator("chat_template_kwargs")
    @classmethod
    def _small_numbers(cls, variables: dict[str, JsonValue]) -> dict[str, JsonValue]:
        pending: list[JsonValue] = [variables]
        while pending:
            value = pending.pop()
            if isinstance(value, (int, float)) and abs(value) > MAX_NUMBER:
                raise PydanticCustomError(
                    "number", "a number in it may be at most {most}", {"most": MAX_NUMBER}
                )
            pending += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return variables

    @property
    def opens_answer(self) -> bool:
        """Whether the prompt ends with the start of an answer."""
        return not self.continue_final_message and self.add_generation_prompt is None

    def asked(self) -> list[str]:
        """Return the names of the fields that a worker must know, so that it does not ignore them.

        `reasoning_effort` is a hint, which may be ignored. A worker that does not tell reasoning from the
        answer has none to leave out. `tools` stands for a model that decides itself whether to call tools:
        its worker has to find the calls in the answer.
        """
        unasked = {"reasoning_effort", "include_reasoning"}
        if not self.offered_tools:
            unasked |= ToolOptions.model_fields.keys()
        elif self.tool_choice != "auto":
            unasked |= {"tools"}
        return [
            name
            for name, field in PromptOptions.model_fields.items()
            if name not in unasked and getattr(self, name) != field.get_default()
        ]
