"""Tests of completions with tools and reasoning, with OpenAI's Python client."""

from typing import Any

import httpx
import pytest

from tests.support.web.openai_clients import HI, pending_completion
from tests.support.web.webstack import TIMEOUT_S, Web, assert_refused, tiny_template
from worker.jobs.cards import ModelCard
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.events import Event, Reasoning, Succeeded, Token, ToolCall

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
OPTIONS = ("tools", "tool_choice", "parallel_tool_calls")
EVENTS: list[Event] = [
    Reasoning("The user ", 0, 2),
    Reasoning("asks.", 2, 2),
    ToolCall(0, '{"city"', 2, "call_a", "weather"),
    ToolCall(0, ': "Tokyo"}', 2),
    ToolCall(1, "{}", 1, "call_b", "no such tool"),
]
CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Tokyo"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "no such tool", "arguments": "{}"}},
]
RESULT = {"text": "", "reasoning": "The user asks.", "tool_calls": CALLS, "finish_reason": "tool_calls"}
USAGE = {
    "prompt_tokens": 8,
    "completion_tokens": 9,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4},
}


def publish(web: Web, lacks: str = "") -> str:
    """Publish a model that supports everything but this option, and return its name."""
    name, supports = f"lacks-{lacks}", {*SamplingParams.model_fields, *OPTIONS} - {lacks}
    card = ModelCard(name, "chat", f"chat.{name}", 4096, digest="1", sampling=tuple(supports))
    web.registry.publish_model(card, tiny_template().to_json())
    return name


def complete(web: Web, *events: Event, result: dict[str, Any] = RESULT, **request: Any) -> tuple[str, Any]:
    """Answer a request with these events and success. Return the job's id and the completion."""
    with pending_completion(web, model=publish(web), **request) as (job_id, future):
        web.worker.claim(job_id)
        web.worker.append(job_id, *events, Succeeded(result, USAGE), result=result, usage=USAGE)
        return job_id, future.result(TIMEOUT_S)


def test_completion_has_calls_and_reasoning(web: Web) -> None:
    job_id, completion = complete(web, *EVENTS, tools=TOOLS)
    [choice] = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert [call.to_dict() for call in choice.message.tool_calls] == CALLS
    assert choice.message.reasoning == choice.message.reasoning_content == "The user asks."
    assert completion.usage.to_dict() == USAGE
    native = web.http.get(f"/v1/jobs/{job_id}/result").json()
    assert native["message"]["tool_calls"] == CALLS
    assert (native["message"]["reasoning"], native["message"]["content"]) == ("The user asks.", None)


def test_completion_without_them_has_no_fields_of_them(web: Web) -> None:
    _, completion = complete(web, Token("Hi", 0, 1), result={"text": "Hi", "finish_reason": "stop"})
    assert (
        not {"tool_calls", "reasoning", "reasoning_content"} & completion.choices[0].message.to_dict().keys()
    )


def test_stream_has_calls_and_reasoning_in_deltas(web: Web) -> None:
    """The first delta of a call has its id and its name, as OpenAI's own have."""
    _, chunks = complete(web, *EVENTS, tools=TOOLS, stream=True)
    *deltas, end = (chunk.choices[0] for chunk in chunks)
    assert [delta.delta.role for delta in deltas] == ["assistant", None, None, None, None]
    assert "".join(each.delta.reasoning for each in deltas[:2]) == "The user asks."
    assert "".join(each.delta.reasoning_content for each in deltas[:2]) == "The user asks."
    calls = [call.to_dict() for each in deltas[2:] for call in each.delta.tool_calls]
    assert calls == [
        {
            "index": 0,
            "id": "call_a",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city"'},
        },
        {"index": 0, "function": {"arguments": ': "Tokyo"}'}},
        {"index": 1, **CALLS[1]},
    ]
    assert (end.finish_reason, end.delta.to_dict()) == ("tool_calls", {})


def test_stream_omits_reasoning_that_is_hidden(web: Web) -> None:
    _, chunks = complete(
        web, Reasoning("", 0, 4), Token("Hi", 4, 1), stream=True, extra_body={"include_reasoning": False}
    )
    assert [chunk.choices[0].delta.to_dict() for chunk in chunks] == [
        {"role": "assistant", "content": "Hi"},
        {},
    ]


def chat(web: Web, lacks: str = "", **request: Any) -> httpx.Response:
    """Submit a chat with tools to a model that lacks an option."""
    body = {"model": publish(web, lacks), "messages": HI, "tools": TOOLS, **request}
    return web.http.post("/v1/jobs/chat", json=body)


def test_model_without_parser_is_asked_only_for_calls_that_are_required(web: Web) -> None:
    assert_refused(web, chat(web, "tools"), 422, "tools")
    assert chat(web, "tools", tool_choice="none").status_code == 202
    assert chat(web, "tools", tool_choice="required").status_code == 202


def test_model_without_structured_outputs_is_not_asked_for_required_calls(web: Web) -> None:
    assert_refused(web, chat(web, "tool_choice", tool_choice="required"), 422, "tool_choice")
    assert chat(web, "tool_choice").status_code == 202


IMPOSSIBLE = {"properties": {"a": False}, "required": ["a"]}


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("ignore_eos", {"ignore_eos": True}),
        ("min_tokens", {"min_tokens": 2}),
        ("bad_words", {"bad_words": ["a"]}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "a", "parameters": IMPOSSIBLE}}]}),
    ],
)
def test_required_call_that_no_grammar_allows_is_refused(web: Web, field: str, given: dict[str, Any]) -> None:
    assert_refused(web, chat(web, tool_choice="required", **given), 422, field)
