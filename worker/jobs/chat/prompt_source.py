"""The source of a chat's prompt: messages for the model's chat template, or the prompt itself."""

from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from worker.jobs.chat.messages import Messages, encodable
from worker.jobs.chat.prompt_options import PromptOptions
from worker.jobs.chat.tools import Text

__all__ = ["MAX_TOKEN_ID", "PromptSource", "RawPrompt"]

#: No vocabulary has as many tokens.
MAX_TOKEN_ID = 2**31 - 1


def _raw(prompt: Any) -> Any:
    """Return the prompt. The errors of a union would not name the field alone."""
    if isinstance(prompt, str) and prompt:
        return encodable(prompt)
    is_list = isinstance(prompt, list) and prompt
    if is_list and all(type(token) is int and 0 <= token <= MAX_TOKEN_ID for token in prompt):
        return prompt
    raise PydanticCustomError("prompt", "must be a text or a list of token ids, and not empty")


#: A prompt that no chat template makes: a text, or token ids.
RawPrompt = Annotated[
    str | list[int],
    PlainValidator(
        _raw,
        json_schema_input_type=Annotated[Text, Field(min_length=1)]
        | Annotated[list[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]], Field(min_length=1)],
    ),
]


class PromptSource(PromptOptions):
    """The source of a chat's prompt: either `messages` or `prompt`."""

    prompt: RawPrompt | None = Field(None, repr=False)
    """The prompt itself, in place of `messages`: a text, or token ids. The model continues it, without a chat
    template. A control token in a text counts as one. Reasoning and calls stay in the answer's text."""
    add_special_tokens: bool | None = None
    """With false, the tokenizer puts no special tokens, such as BOS, around the text of a `prompt`. The chat
    template writes those of `messages`, so true is refused for them."""
    messages: Messages = Field([], validate_default=True, repr=False)
    """The conversation that the model continues. It has at least one message."""

    @field_validator("prompt")
    @classmethod
    def _without_template(cls, prompt: Any, fields: ValidationInfo) -> Any:
        """Refuse options that only a chat template obeys."""
        defaults = {name: field.get_default() for name, field in PromptOptions.model_fields.items()}
        for name, default in defaults.items():
            other = fields.data.get(name, default) != default
            if prompt is not None and other and name != "truncate_prompt_tokens":
                raise PydanticCustomError("prompt", "may not be given beside {name}", {"name": name})
        return prompt

    @field_validator("add_special_tokens")
    @classmethod
    def _of_text(cls, added: bool | None, fields: ValidationInfo) -> bool | None:
        is_raw = fields.data.get("prompt") is not None
        if added and not is_raw:
            raise PydanticCustomError("add_special_tokens", "cannot be true for messages")
        return False if is_raw and added is False else None  # the default is not stored

    @field_validator("messages")
    @classmethod
    def _either(cls, messages: Messages, fields: ValidationInfo) -> Messages:
        if "prompt" in fields.data:  # otherwise it is wrong, and its own error says so
            is_raw = fields.data["prompt"] is not None
            if is_raw and messages:
                raise PydanticCustomError("messages", "may not be given beside prompt")
            if not is_raw and not messages:
                raise PydanticKnownError("missing")
        return messages

    @property
    def is_parsed(self) -> bool:
        """Whether calls of tools and reasoning are looked for in the answer."""
        return self.prompt is None

    def asked(self) -> list[str]:
        """Return the names of the fields that a worker must know, so that it does not ignore them."""
        of_messages = dict.fromkeys(name for message in self.messages for name in message.asked())
        return [*super().asked(), *of_messages, *(["prompt"] if self.prompt is not None else [])]
