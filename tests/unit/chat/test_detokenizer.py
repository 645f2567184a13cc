"""Tests of the detokenizer: it breaks no character, loses no text, and emits no part of a stop string."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.chat.byte_tokenizer import END, MARKER, STOPS, TEXT, TOKENIZER
from worker.chat.detokenizer import Detokenizer, StopStrings
from worker.jobs.chat.sampling import SamplingParams


def pieces(ids: list[int], stop: list[str]) -> tuple[list[str], bool]:
    detokenizer = Detokenizer(TOKENIZER, SamplingParams.model_construct(stop=stop))
    texts = [detokenizer.push(token) for token in ids]
    return [*texts, detokenizer.finish()], detokenizer.stopped


def up_to(text: str, stop: list[str]) -> str:
    """Return the text before the stop string that is complete first; of several, before the longest."""
    for end in range(len(text) + 1):
        if found := [each for each in stop if text[:end].endswith(each)]:
            return text[: end - max(map(len, found))]
    return text


@given(TEXT, STOPS)
@settings(deadline=None)
def test_detokenizer_pieces_join_to_text_before_stop_string(text: str, stop: list[str]) -> None:
    ids = [*TOKENIZER.encode(text).ids, END]
    whole = TOKENIZER.decode(ids, skip_special_tokens=True)
    said, stopped = pieces(ids, stop)
    assert stopped == any(each in whole for each in stop)
    assert "".join(said) == up_to(whole, stop)


@given(TEXT, STOPS)
@settings(deadline=None)
def test_detokenizer_includes_stop_string_if_asked(text: str, stop: list[str]) -> None:
    ids = TOKENIZER.encode(text).ids
    detokenizer = Detokenizer(
        TOKENIZER, SamplingParams.model_construct(stop=stop, include_stop_str_in_output=True)
    )
    said = "".join(map(detokenizer.push, ids)) + detokenizer.finish()
    ends = [text.find(each) + len(each) for each in stop if each in text]
    assert said == text[: min(ends, default=None)]


@given(TEXT, TEXT)
@settings(deadline=None)
def test_detokenizer_emits_text_of_special_tokens_only_if_they_are_markers(before: str, behind: str) -> None:
    ids = [*TOKENIZER.encode(before).ids, MARKER, END, *TOKENIZER.encode(behind).ids]
    for markers, text in ({MARKER}, f"{before}<think>{behind}"), (set[int](), f"{before}{behind}"):
        detokenizer = Detokenizer(TOKENIZER, SamplingParams(), markers)
        assert "".join(map(detokenizer.push, ids)) == text


@given(TEXT, st.data())
@settings(deadline=None)
def test_detokenizer_emits_whole_characters_of_cut_answer(text: str, data: st.DataObject) -> None:
    ids = TOKENIZER.encode(text).ids
    said, _ = pieces(ids[: data.draw(st.integers(0, len(ids)))], [])
    assert text.startswith("".join(said))


@given(st.lists(st.integers(0, END), max_size=60))
@settings(deadline=None)
def test_detokenizer_of_any_ids_emits_prefix_of_their_text(ids: list[int]) -> None:
    said, _ = pieces(ids, [])
    assert TOKENIZER.decode(ids, skip_special_tokens=True).startswith("".join(said))


@given(st.lists(st.text("ab", max_size=4), max_size=12), st.lists(st.text("ab", max_size=4), max_size=3))
def test_stop_strings_ignore_how_text_is_cut(parts: list[str], stop: list[str]) -> None:
    strings = StopStrings(stop)
    said = "".join([*(strings.push(part) for part in parts), strings.finish()])
    stop = [each for each in stop if each]
    assert strings.found == any(each in "".join(parts) for each in stop)
    assert said == up_to("".join(parts), stop)
    assert strings.found or said == "".join(parts)


@pytest.mark.parametrize(
    ("parts", "stop", "expected"),
    [
        (["Hello wo", "rld"], ["world"], ["Hello ", ""]),
        (["a", "ab"], ["aab"], ["", ""]),
        (["a", "a", "c"], ["aab"], ["", "", "aac"]),
        (["one STOP two"], ["STOP", "one"], [""]),
        (["x<", "/", "s> y"], ["</s>"], ["x", "", ""]),
    ],
)
def test_stop_strings_hold_back_possible_start(
    parts: list[str], stop: list[str], expected: list[str]
) -> None:
    strings = StopStrings(stop)
    assert [strings.push(part) for part in parts] == expected


def test_stop_strings_pass_nothing_after_stop() -> None:
    strings = StopStrings(["b"])
    assert [strings.push(part) for part in ("abc", "def")] == ["a", ""]
    assert strings.finish() == ""
