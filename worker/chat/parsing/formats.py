"""How models write calls of tools and reasoning: the formats that transformers' `ResponseParser` reads."""

from collections.abc import Mapping
from typing import Any

__all__ = ["REASONING_FORMATS", "TOOL_FORMATS", "format_in", "response_template"]

Format = Mapping[str, Any]

_FUNCTION = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}

#: Fields `tool_calls` of response templates, by name. The patterns are those of transformers
#: (cli/serving/utils.py), and the names are those of vLLM's parsers. `\s*` removes white space around a call.
TOOL_FORMATS: Mapping[str, Format] = {
    "qwen3_coder": {
        "open_pattern": r"\s*<tool_call>\s*<function=(?P<name>[^>\n]+)>",
        "close_pattern": r"</function>\s*</tool_call>\s*",
        "content": "xml-inline",
        "content_args": {
            "tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>",
        },
        "transform": _FUNCTION,
    },
    "gemma4": {
        "open_pattern": r"<\|tool_call>call:(?P<name>\w+)",
        "close": "<tool_call|>",
        "content": "json",
        "content_args": {"unquoted_keys": True, "string_delims": [['<|"|>', '<|"|>']]},
        "transform": _FUNCTION,
    },
    "hermes": {
        "open_pattern": r"\s*<tool_call>",
        "close_pattern": r"</tool_call>\s*",
        "content": "json",
        "transform": {"type": "function", "function": "{content}"},
    },
}
#: Fields `reasoning` of response templates, by name.
REASONING_FORMATS: Mapping[str, Format] = {
    "gemma4": {"open": "<|channel>thought\n", "close_pattern": r"\s*<channel\|>\s*"},
    "think": {"open_pattern": r"<think>\s*", "close_pattern": r"\s*</think>\s*"},
}
#: Texts of a chat template that tell the format. The first format whose text occurs is the model's.
_SIGNS: Mapping[str, str] = {
    "qwen3_coder": "<function=",
    "gemma4": "<|channel>",
    "hermes": "<tool_call>",
    "think": "<think>",
}


def format_in(chat_template: str, formats: Mapping[str, Format]) -> str | None:
    """Return the name of the format that a chat template uses; None if it uses none of them."""
    return next((name for name in formats if _SIGNS[name] in chat_template), None)


def response_template(tools: str | None, reasoning: str | None) -> dict[str, Any]:
    """Return the response template of answers with these formats. None stands for answers without them."""
    fields: dict[str, Any] = {"content": {"content": "text"}}
    if tools is not None:
        fields["tool_calls"] = {"repeats": True, **TOOL_FORMATS[tools]}
    if reasoning is not None:
        fields["reasoning"] = {"content": "text", **REASONING_FORMATS[reasoning]}
    return {"fields": fields, "start_anchor_pattern": r"(?!)"}
