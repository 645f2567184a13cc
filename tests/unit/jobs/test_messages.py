"""Messages, tools and options of a prompt: what they accept, what is stored, what a worker must know."""

import json
from typing import Any

import pytest

from worker.jobs.chat.messages import Message
from worker.jobs.chat.prompt_options import PromptOptions
from worker.jobs.chat.sampling import COMMON_PARAMETERS, unsupported
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob, read_spec, validate

HI = {"role": "user", "content": "Hi"}
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"default": None}}}}
TOOL = {"type": "function", "function": FUNCTION}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]


def chat(*messages: dict[str, Any], **fields: Any) -> ChatJob:
    return validate(ChatJob, {"messages": [*messages, HI], **fields})


def stored(spec: ChatJob) -> Any:
    return json.loads(spec.model_dump_json(exclude_defaults=True))


@pytest.mark.parametrize(
    ("given", "as_older_versions_read_it"),
    [
        ({"role": "developer", "content": "a", "name": None}, {"role": "system", "content": "a"}),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "a\nb"},
        ),
        ({"role": "assistant", "content": None, "tool_calls": []}, {"role": "assistant", "content": ""}),
        ({"role": "assistant"}, {"role": "assistant", "content": ""}),
        ({"role": "assistant", "content": []}, {"role": "assistant", "content": ""}),
    ],
)
def test_message_that_asks_for_nothing_new_is_stored_as_older_versions_read_it(
    given: dict[str, Any], as_older_versions_read_it: dict[str, Any]
) -> None:
    spec = chat(given)
    assert stored(spec) == {"messages": [as_older_versions_read_it, HI]}
    assert unsupported(spec, COMMON_PARAMETERS) == []


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"add_generation_prompt": True, "chat_template_kwargs": {}, "include_reasoning": True}, []),
        ({"continue_final_message": True}, ["continue_final_message"]),
        ({"add_generation_prompt": False}, ["add_generation_prompt"]),
        ({"chat_template_kwargs": {"a": 1}}, ["chat_template_kwargs"]),
        ({"truncate_prompt_tokens": -1}, ["truncate_prompt_tokens"]),
        ({"include_reasoning": False, "temperature": 0}, []),
        ({"reasoning_effort": "low"}, []),
        ({"tools": [TOOL]}, ["tools"]),
        ({"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False}, []),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}, []),
        (
            {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
            ["tool_choice", "parallel_tool_calls"],
        ),
    ],
)
def test_unsupported_names_options_that_an_older_worker_would_ignore(
    fields: dict[str, Any], names: list[str]
) -> None:
    spec = chat(**fields)
    assert unsupported(spec, COMMON_PARAMETERS) == names
    assert unsupported(spec, COMMON_PARAMETERS | PromptOptions.model_fields.keys()) == []
    assert read_spec(ChatJob, json.dumps(stored(spec))) == spec


def test_unsupported_names_fields_of_messages_that_an_older_worker_would_ignore() -> None:
    call = {"role": "assistant", "tool_calls": CALLS, "reasoning": "Hm", "reasoning_content": "Hm"}
    spec = chat(call, {"role": "tool", "content": "4", "tool_call_id": "c1"}, call)
    fields = ["tool_calls", "reasoning", "reasoning_content", "tool_call_id"]
    assert unsupported(spec, COMMON_PARAMETERS) == [f"messages.{name}" for name in fields]
    assert read_spec(ChatJob, json.dumps(stored(spec))) == spec
    assert (spec.messages[0].content, spec.messages[0].tool_calls[0].function.arguments) == (None, '{"a": 1}')


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("content", {"role": "tool", "tool_call_id": "c1"}),
        ("content", {"role": "user", "content": "\ud800"}),
        ("content.0.text", {"role": "user", "content": [{"type": "text", "text": "\ud800"}]}),
        ("tool_calls", {"role": "user", "content": "a", "tool_calls": CALLS}),
        ("reasoning_content", {"role": "system", "content": "a", "reasoning_content": "Hm"}),
    ],
)
def test_message_error_names_the_field(field: str, message: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(Message, message)
    assert caught.value.field == field


def test_arguments_with_more_values_than_a_request_may_have_are_refused() -> None:
    """They are JSON within a text, so the limits of the request's own JSON do not reach them."""

    def calls(arguments: str) -> dict[str, Any]:
        called = [{"id": "c", "function": {"name": "f", "arguments": arguments}}] * 4
        return {"role": "assistant", "tool_calls": called}

    many = '{"a": [' + "1," * 2**14 + "1]}"
    with pytest.raises(InvalidInput, match="too many values"):
        chat(calls(many))
    code = json.dumps({"code": 'print(["\\"", {}]), ' * 2**14})
    assert chat(calls(code), calls(many[: len(many) // 2])).messages[0].tool_calls


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", "x" * 2**16])
def test_json_that_cannot_be_stored_is_refused(value: Any) -> None:
    """JSON has neither NaN nor lone surrogates, so the worker would read something else, or nothing."""
    for fields in (
        {"chat_template_kwargs": {"a": [value]}},
        {"tools": [{"type": "function", "function": FUNCTION | {"parameters": {"a": [value]}}}]},
    ):
        with pytest.raises(InvalidInput, match=r"JSON|number"):
            chat(**fields)


def test_documents_of_jobs_show_no_tools() -> None:
    spec = chat(tools=[TOOL], chat_template_kwargs={"a": "secret"}, truncate_prompt_tokens=5)
    assert ChatJob.shown(stored(spec)) == {"truncate_prompt_tokens": 5}
