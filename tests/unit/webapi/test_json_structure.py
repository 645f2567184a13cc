"""Limits of a JSON text's structure."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest

from webapi.http import json_structure
from webapi.http.json_structure import MAX_DEPTH, MAX_DIGITS, MAX_KEYS, MAX_TOKENS, check_structure
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob, validate

TEXTS = st.text('"\\{}[]:, \nné', max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
)


def tokens(value: Any) -> int:
    if isinstance(value, dict):
        return 2 + sum(2 + tokens(each) for each in value.values())
    return 2 + sum(map(tokens, value)) if isinstance(value, list) else 1


def keys(value: Any) -> int:
    inner = list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else [])
    return max([len(value) if isinstance(value, dict) else 0, *map(keys, inner)])


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_structure_counts_tokens_and_keys(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_structure, "MAX_TOKENS", tokens(value))
        patch.setattr(json_structure, "MAX_KEYS", keys(value))
        patch.setattr(json_structure, "MAX_DIGITS", 400)
        check_structure(text)
        patch.setattr(json_structure, "MAX_TOKENS", tokens(value) - 1)
        with pytest.raises(InvalidInput, match="values"):
            check_structure(text)
        if keys(value):
            patch.setattr(json_structure, "MAX_TOKENS", tokens(value))
            patch.setattr(json_structure, "MAX_KEYS", keys(value) - 1)
            with pytest.raises(InvalidInput, match="keys"):
                check_structure(text)


@pytest.mark.parametrize("value", ["9", "-9", "1.5", "1e9", "x"])
def test_structure_limits_length_of_words(value: str) -> None:
    check_structure(f'{{"a": {value.ljust(MAX_DIGITS, value[-1])}}}')
    with pytest.raises(InvalidInput, match="digits"):
        check_structure(f'{{"a": {value.ljust(MAX_DIGITS + 1, value[-1])}}}')


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_structure_limits_depth(bracket: str) -> None:
    check_structure(bracket * MAX_DEPTH)
    with pytest.raises(BadRequest):
        check_structure(bracket * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "text",
    ['"' * (MAX_TOKENS * 3), "[]" * MAX_TOKENS, "1 " * (MAX_TOKENS + 1), "1," * (MAX_TOKENS + 1),
     ':' * (MAX_KEYS + 1), '"a":' * (MAX_KEYS + 1)],
)  # fmt: skip
def test_structure_limits_texts_that_are_not_json(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_structure(text)


@pytest.mark.parametrize("text", ["", "]", '"', '"\\', '"\\"', "\\", " ,\n", "[" + " " * 100])
def test_structure_leaves_broken_texts_to_the_parser(text: str) -> None:
    check_structure(text)


def test_structure_takes_the_largest_logit_bias() -> None:
    bias = {str(token): -100 for token in range(1024)}
    body = {"messages": [{"role": "user", "content": "a"}], "logit_bias": bias}
    check_structure(json.dumps(body))
    assert validate(ChatJob, body).logit_bias == bias
