"""The input of a chat template: messages, tools and variables, as plain JSON values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from worker.jobs.chat.prompt_options import PromptOptions

__all__ = ["Conversation"]

#: Words that templates compare or look up, in messages and in JSON schemas. Clients only choose among them.
_WORDS = frozenset(
    (
        "id", "type", "function", "name", "arguments", "description", "parameters", "properties", "required",
        "items", "enum", "default", "anyOf", "oneOf", "allOf", "additionalProperties",
        "object", "array", "string", "integer", "number", "boolean", "null",
    )
)  # fmt: skip

Change = Callable[[str], str]


@dataclass(frozen=True)
class Conversation:
    """The input of a chat template.

    `variables` are those that the client sets. `opens_answer` adds the start of an answer to the prompt, and
    `continues` leaves the last message open.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    variables: Mapping[str, Any] | None = None
    opens_answer: bool = True
    continues: bool = False

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]], options: PromptOptions) -> Self:
        """Return the conversation of messages in the form that transformers' templates read."""
        effort = options.reasoning_effort
        variables = {} if effort is None else {"reasoning_effort": effort}
        if effort == "none":  # the names of the switch in the templates of Qwen and DeepSeek
            variables |= {"enable_thinking": False, "thinking": False}  # type: ignore[dict-item]
        return cls(
            messages,
            [tool.for_template() for tool in options.offered_tools] or None,
            variables | options.chat_template_kwargs,
            options.opens_answer,
            options.continue_final_message,
        )

    @property
    def has_tools(self) -> bool:
        """Whether the conversation offers, calls or has called tools."""
        return bool(self.tools) or any(
            message.get("role") == "tool" or message.get("tool_calls") for message in self.messages
        )

    def changed(self, change: Change, change_of_tools: Change) -> Self:
        """Return the conversation with all texts of the client changed, those of tools by `change_of_tools`.

        Roles stay, and the words of message formats and JSON schemas, because templates compare them.
        """
        messages = [
            {
                name: value
                if name == "role"
                else _changed(
                    value,
                    change_of_tools if name == "tool_calls" or message.get("role") == "tool" else change,
                )
                for name, value in message.items()
            }
            for message in self.messages
        ]
        tools = _changed(self.tools, change_of_tools)
        return replace(self, messages=messages, tools=tools, variables=_changed(self.variables, change))


def _changed(value: Any, change: Change) -> Any:
    """Return the JSON value with its texts changed, the keys of its objects among them."""
    if isinstance(value, str):
        return value if value in _WORDS else change(value)
    if isinstance(value, Mapping):
        return {_changed(key, change): _changed(each, change) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_changed(each, change) for each in value]
    return value
