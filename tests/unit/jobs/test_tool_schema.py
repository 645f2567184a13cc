"""Tests of the schemas of answers that have to call tools."""

import json
from typing import Any

import jsonschema
import pytest

from worker.jobs.chat.grammars import check_grammar
from worker.jobs.chat.tool_schema import forced_calls
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob, validate

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TREE = {
    "$defs": {"node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}}}},
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}, "self": {"$ref": "#"}},
    "required": ["root"],
}


def chat(tool_choice: Any, **options: Any) -> ChatJob:
    functions = [
        {"name": "weather", "parameters": CITY},
        {"name": "plant", "parameters": TREE},
        {"name": "now"},
    ]
    tools = [{"type": "function", "function": function} for function in functions]
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": tools, "tool_choice": tool_choice}
    return validate(ChatJob, body | options)


def accepts(job: ChatJob, answer: object) -> bool:
    forced = forced_calls(job)
    assert forced is not None
    check_grammar(forced)
    return bool(jsonschema.Draft202012Validator(forced.json_schema or {}).is_valid(answer))


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_answer_is_free_unless_a_call_is_required(choice: str) -> None:
    assert forced_calls(chat(choice)) is None


def test_required_answer_is_an_array_of_calls() -> None:
    job = chat("required")
    assert accepts(job, [call("weather", city="Tokyo")])
    assert accepts(job, [call("now"), call("plant", root={"left": {"left": {}}})])
    assert not accepts(job, [])
    assert not accepts(job, [call("weather")])
    assert not accepts(job, [call("now", city="Tokyo")])
    assert not accepts(job, [call("plant", root={"left": 1})])
    assert not accepts(job, [call("plant", root={}, self={"root": 1})])
    assert not accepts(job, [call("other")])


def test_single_call_is_an_object() -> None:
    assert accepts(chat("required", parallel_tool_calls=False), call("now"))
    named = chat({"type": "function", "function": {"name": "plant"}})
    assert accepts(named, call("plant", root={}))
    assert not accepts(named, call("now"))
    assert not accepts(named, [call("plant", root={})])


@pytest.mark.parametrize(
    ("more", "open_"),
    [
        ({}, False),
        ({"additionalProperties": True}, True),
        ({"anyOf": [{"properties": {"hours": {"type": "integer"}}}]}, True),
    ],
)
def test_unnamed_arguments_need_a_schema_that_allows_them(more: dict[str, Any], open_: bool) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": CITY | more}}
    job = chat({"type": "function", "function": {"name": "weather"}}, tools=[tool])
    assert accepts(job, call("weather", city="Tokyo"))
    assert accepts(job, call("weather", city="Tokyo", hours=9)) == open_


@pytest.mark.parametrize(
    "more", [{"$id": "https://example.org/plant"}, {"$schema": "http://json-schema.org/draft-07/schema#"}, {}]
)
@pytest.mark.parametrize("reference", ["#/$defs/leaf", "#leaf"])
def test_references_of_a_schema_lead_into_it(more: dict[str, Any], reference: str) -> None:
    leaf = {"$anchor": "leaf", "type": "integer"}
    schema = {**more, "properties": {"leaf": {"$ref": reference}}, "$defs": {"leaf": leaf}}
    tool = {"type": "function", "function": {"name": "plant", "parameters": schema}}
    forced = forced_calls(chat("required", tools=[tool]))
    assert forced is not None
    check_grammar(forced)


@pytest.mark.parametrize("kind", ["string", "array", ["object", "null"], None, 5])
def test_parameters_that_are_no_object_are_refused(kind: Any) -> None:
    tool = {"type": "function", "function": {"name": "plant", "parameters": {"type": kind}}}
    with pytest.raises(InvalidInput, match="must be object") as caught:
        chat("auto", tools=[tool])
    assert caught.value.field == "tools.0.function.parameters"


def test_tools_that_are_too_large_together_are_refused() -> None:
    text = "x" * 40_000
    large = {"type": "object", "description": text}
    tools = [{"type": "function", "function": {"name": name, "parameters": large}} for name in ("a", "b")]
    with pytest.raises(InvalidInput, match="may have at most"):
        forced_calls(chat("required", tools=tools))


def test_name_comes_before_the_arguments() -> None:
    """So the client gets the name first, whatever the arguments are."""
    forced = forced_calls(chat("required"))
    assert forced is not None
    text = json.dumps(forced.json_schema)
    assert text.index('"name"') < text.index('"arguments"')
