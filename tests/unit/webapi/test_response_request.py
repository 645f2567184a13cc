"""Tests of the requests for responses: the messages of their input, and what is refused."""

from typing import Any

import pytest

from tests.unit.webapi.test_response_fold import job_of
from webapi.responses.input_list import InputItemList, InputItemQuery
from webapi.responses.job import EXTRAS
from worker.jobs.chat.sampling import TO_CONTEXT_END
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob, read_spec

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}', "id": "fc_1"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "2"}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Hm."}],
}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def messages_of(*items: Any, **body: Any) -> list[dict[str, Any]]:
    job = job_of(input=list(items), **body)
    return [message.model_dump(exclude_defaults=True) for message in job.messages]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_text_input_is_message_of_the_user_after_the_instructions() -> None:
    job = job_of(input="Hi", instructions="Be brief.")
    assert [(m.role, m.content) for m in job.messages] == [("system", "Be brief."), ("user", "Hi")]
    assert [m.content for m in job.conversation] == ["Hi"]


def test_items_of_one_turn_are_one_message() -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]}
    found = messages_of(user("Hi"), REASONING, said, CALL, CALL | {"call_id": "c2"}, OUTPUT)
    assert [message["role"] for message in found] == ["user", "assistant", "tool"]
    assert (found[1]["reasoning"], found[1]["content"]) == ("Hm.", "Wait.")
    assert [call["id"] for call in found[1]["tool_calls"]] == ["c1", "c2"]
    assert found[2] == {"role": "tool", "tool_call_id": "c1", "content": "2"}


def test_turns_after_each_other_stay_apart() -> None:
    said = {"role": "assistant", "content": "One."}
    found = messages_of(user("Hi"), said, REASONING, said | {"content": "Two."}, CALL, said)
    assert [message.get("content") for message in found] == ["Hi", "One.", "Two.", "One."]
    assert found[2]["reasoning"] == "Hm."
    assert found[2]["tool_calls"]


def test_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages_of({"role": "developer", "content": parts}) == [{"role": "system", "content": "a\nb"}]


def test_reasoning_without_text_is_no_message() -> None:
    secret: dict[str, Any] = {
        "type": "reasoning",
        "id": "rs",
        "summary": [],
        "content": None,
        "encrypted_content": "x",
    }
    assert messages_of(user("Hi"), secret) == [user("Hi")]


def test_request_becomes_a_chat_that_older_workers_read() -> None:
    job = job_of(
        tools=[TOOL],
        tool_choice={"type": "function", "name": "f"},
        reasoning={"effort": "low"},
        include=["message.output_text.logprobs"],
        metadata={"a": "b"},
        seed=7,
        priority=9,
    )
    chat = read_spec(ChatJob, job.model_dump_json(exclude_defaults=True))
    assert type(chat) is ChatJob
    assert (chat.max_tokens, chat.logprobs, chat.reasoning_effort) == (TO_CONTEXT_END, True, "low")
    assert (chat.seed, chat.priority, chat.tools[0].function.name) == (7, 9, "f")
    assert not isinstance(chat.tool_choice, str)
    assert chat.tool_choice.function.name == "f"
    assert set(EXTRAS) <= ChatJob.model_fields.keys()


def test_text_format_is_structured_output() -> None:
    schema = {"type": "object"}
    job = job_of(text={"format": {"type": "json_schema", "name": "t", "schema": schema, "strict": True}})
    assert job.structured_outputs
    assert (job.structured_outputs.json_schema, job.structured_outputs.strict) == (schema, True)
    assert job_of(text={"format": {"type": "text"}}).structured_outputs is None
    free = job_of(text={"format": {"type": "json_object"}, "verbosity": "low"}).structured_outputs
    assert free
    assert free.json_object


def test_neutral_values_and_null_change_nothing() -> None:
    plain = job_of()
    neutral = dict.fromkeys(
        (
            "tools",
            "tool_choice",
            "text",
            "reasoning",
            "metadata",
            "include",
            "store",
            "stream",
            "top_p",
            "prompt",
        )
    )
    assert job_of(**neutral) == plain
    job_of(
        truncation="disabled",
        service_tier="auto",
        stream_options={"include_obfuscation": False},
        include=["reasoning.encrypted_content", "file_search_call.results"],
        store=False,
        background=False,
        max_tool_calls=3,
        prompt_cache_key="k",
        safety_identifier="s",
        conversation=None,
        newer_field=1,
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": None}, "input"),
        ({"input": [user([{"type": "input_image", "image_url": "x"}])]}, "input.0.content.0.type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"type": "computer_call"}]}, "input.0.type"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0"),
        ({"input": [{"role": "user"}]}, "input.0"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools.0.type"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "text", "name": "\ud800"}}}, "text.format.name"),
        ({"input": "\ud800"}, "messages.0.content"),
        ({"input": [{**CALL, "arguments": "\ud800"}]}, "input.0.arguments"),
        ({"instructions": "\ud800"}, "instructions"),
        ({"metadata": {"a": "\ud800"}}, "metadata.a"),
        ({"user": "\ud800"}, "user"),
        ({"model": "\ud800"}, "model"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"context_management": []}, "context_management"),
        ({"background": True, "store": False}, "store"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"include": ["everything"]}, "include.0"),
        ({"best_of": 2}, "best_of"),
        ({"stop": ["a"] * 5}, "stop"),
    ],
)
def test_request_is_refused_by_the_name_of_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        job_of(**body)
    assert refused.value.field == field


def test_input_list_has_an_item_for_each_part_of_the_conversation() -> None:
    job = job_of(input=[user("Hi"), REASONING, CALL, OUTPUT], instructions="Be brief.")
    listed = InputItemList.of("j", job, InputItemQuery(order="asc"))
    assert [item["type"] for item in listed.data] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert not listed.has_more
    pages = [InputItemList.of("j", job, InputItemQuery(limit=3))]
    pages.append(InputItemList.of("j", job, InputItemQuery(limit=3, after=pages[0].last_id)))
    assert [page.has_more for page in pages] == [True, False]
    assert [item for page in pages for item in page.data] == listed.data[::-1]
    with pytest.raises(InvalidInput, match="no input item"):
        InputItemList.of("j", job, InputItemQuery(after="msg_9"))
