"""Tests of the reader of calls that are JSON: the arguments must not depend on how the text is cut."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.chat.pieces import parse
from worker.chat.parsing.json_calls import JsonCallsParser
from worker.chat.parsing.pieces import TextPiece, ToolCallPiece

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(st.text(max_size=6), JSON), min_size=1, max_size=3),
    st.integers(1, 40),
    st.sampled_from([None, 2]),
    st.booleans(),
)
@settings(deadline=None)
def test_json_calls_are_read_in_whatever_parts_they_come(
    calls: list[tuple[str, object]], size: int, indent: int | None, ascii_only: bool
) -> None:
    documents = [{"name": name, "arguments": arguments} for name, arguments in calls]
    text = json.dumps(documents, indent=indent, ensure_ascii=ascii_only)
    found = parse(JsonCallsParser(), text, size)
    assert all(isinstance(piece, ToolCallPiece) for piece in found)
    assert [piece.number for piece in found if isinstance(piece, ToolCallPiece)] == [*range(len(calls))]
    read = [(p.name, json.loads(p.arguments)) for p in found if isinstance(p, ToolCallPiece)]
    assert read == calls


@pytest.mark.parametrize("size", [1, 7, 100])
def test_single_call_needs_no_array(size: int) -> None:
    found = parse(JsonCallsParser(), '{"name": "f", "arguments": {"a": "}\\""}}\n', size)
    assert found == [ToolCallPiece(0, "f", '{"a": "}\\""}')]


def test_arguments_are_passed_on_as_they_come() -> None:
    parser = JsonCallsParser()
    assert parser.feed('[{"name": "f", "arguments": ', ()) == []
    assert parser.feed('{"a"', ()) == [ToolCallPiece(0, "f", '{"a"')]
    assert parser.feed(": 1", ()) == [ToolCallPiece(0, None, ": 1")]
    assert parser.feed("}}, ", ()) == [ToolCallPiece(0, None, "}")]


@pytest.mark.parametrize("size", [1, 100])
def test_answer_of_another_form_becomes_text(size: int) -> None:
    assert parse(JsonCallsParser(), "I cannot do that.", size) == [TextPiece("I cannot do that.")]


@pytest.mark.parametrize("size", [1, 100])
def test_call_that_ends_early_keeps_what_it_has(size: int) -> None:
    text = '[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {"b": [2, '
    calls = [ToolCallPiece(0, "f", '{"a": 1}'), ToolCallPiece(1, "g", '{"b": [2, ')]
    assert parse(JsonCallsParser(), text, size) == calls
    assert parse(JsonCallsParser(), text[: text.index('"g"') + 2], size)[1:] == [TextPiece('{"name": "g')]
