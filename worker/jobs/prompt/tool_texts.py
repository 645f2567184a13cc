"""Tools, calls and results as text, for chat templates that know no tools."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["INTRODUCTION", "introduced", "written_out"]

#: What a model reads before its first message. Models of the families Hermes and Qwen were trained with these
#: words, and parsers of their answers read the calls.
INTRODUCTION = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""  # noqa: E501

Messages = Sequence[Mapping[str, Any]]


def introduced(messages: Messages, tools: Messages, takes_system: bool) -> Messages:
    """Return the messages with a description of the tools at the end of the system message.

    Without one, it becomes the system message. If the template takes none, the description stands at the head
    of the first message.
    """
    text = INTRODUCTION.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    first = messages[0]
    if not takes_system:
        return [{**first, "content": f"{text}\n\n{first['content'] or ''}"}, *messages[1:]]
    if first["role"] != "system":
        return [{"role": "system", "content": text}, *messages]
    return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]


def written_out(messages: Messages) -> Messages:
    """Return the messages with the calls of tools in the assistant's texts, and the results in the user's.

    Results and the user's next message become one message, because many templates want the roles to take
    turns.
    """
    written: list[Mapping[str, Any]] = []
    joins = False
    for message in messages:
        is_result = message["role"] == "tool"
        plain = _result(message) if is_result else _with_calls(message)
        if (is_result or joins) and plain["role"] == "user" and written and written[-1]["role"] == "user":
            before = written.pop()["content"]
            plain = {**plain, "content": f"{before}\n{plain['content']}"}
        written.append(plain)
        joins = is_result
    return written


def _result(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}


def _with_calls(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if not message.get("tool_calls"):
        return message
    calls = [
        json.dumps({name: call["function"][name] for name in ("name", "arguments")}, ensure_ascii=False)
        for call in message["tool_calls"]
    ]
    texts = [message["content"]] if message.get("content") else []
    content = "\n".join([*texts, *(f"<tool_call>\n{call}\n</tool_call>" for call in calls)])
    return {name: value for name, value in message.items() if name != "tool_calls"} | {"content": content}
