"""A request that goes on behind what an earlier attempt said ends as if nothing had happened."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.conftest import BRIEF, Served, chat
from worker.chat.engine import ChatRequest, Delta

EMOJI = "Repeat exactly: 🎉🎊🦄 こんにちは 你好 Ω≈ç√ 🎉🎊🦄"


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def undisturbed(served: Served, request: ChatRequest) -> list[Delta]:
    return served.recorder.run(served.engine, request)[request.id]


def assert_resumes(served: Served, request: ChatRequest) -> None:
    """Cut the answer before each of its tokens: the rest brings the same text, ids and finish reason."""
    if request.temperature > 0 and not served.keeps_draws:
        pytest.skip("this model runner of vLLM draws by a stream, and begins it anew")
    whole = undisturbed(served, request)
    ids = served.recorder.ids(request.id)
    assert len(ids) == len(whole)
    rest = [replace(request, id=f"from {n}", generated_ids=ids[:n]) for n in range(len(ids))]
    for n, (name, deltas) in enumerate(served.recorder.run(served.engine, *rest).items()):
        assert text(deltas) == text(whole[n:]), f"{name} of {whole}"
        assert served.recorder.ids(name) == ids[n:]
        assert deltas[-1].finish_reason == whole[-1].finish_reason


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0, "seed": 11}, {"temperature": 0.8, "top_p": 0.9, "seed": 3}]
)
def test_an_answer_goes_on_wherever_it_was_cut(served: Served, options: dict[str, Any]) -> None:
    assert_resumes(served, chat(served, "a", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_eos": True},
        {"min_tokens": 10, "temperature": 1.0, "seed": 11},
        {"min_tokens": 9, "stop": ("a",)},
    ],
)
def test_the_least_length_holds_wherever_it_was_cut(served: Served, options: dict[str, Any]) -> None:
    assert_resumes(served, chat(served, "a", BRIEF, max_tokens=12, **options))


def test_a_stop_string_is_found_wherever_it_was_cut(served: Served) -> None:
    stop = text(undisturbed(served, chat(served, "a")))[9:34]
    request = chat(served, "a", stop=("never said", stop))
    assert undisturbed(served, request)[-2].text == ""  # held back: the string is of several tokens
    assert_resumes(served, request)


def test_what_only_began_a_stop_string_comes_wherever_it_was_cut(served: Served) -> None:
    said = text(undisturbed(served, chat(served, "a")))
    request = chat(served, "a", stop=(said[4:30] + "\0", said[-9:] + "\0"))
    assert text(undisturbed(served, request)) == said
    assert_resumes(served, request)


def test_characters_come_whole_wherever_they_were_cut(served: Served) -> None:
    request = chat(served, "a", EMOJI, max_tokens=20)
    assert any(ord(character) > 0xFFFF for character in text(undisturbed(served, request)))
    assert_resumes(served, request)


def test_an_answer_without_room_for_a_token_ends_with_what_was_held_back(served: Served) -> None:
    said = text(undisturbed(served, chat(served, "a")))
    request = chat(served, "a", stop=(said[-3:] + "\0",), max_tokens=17)
    before = undisturbed(served, request)[:16]
    assert text(before) == said[:-3]
    full = replace(request, max_tokens=16, generated_ids=served.recorder.ids("a")[:16])
    assert undisturbed(served, full) == [Delta("a", said[-3:], (), "length")]


def test_the_context_bounds_a_resumed_answer(served: Served) -> None:
    room = 5
    request = chat(served, "a", max_tokens=400)
    prompt = [*request.prompt, *[9] * served.engine.context_length][: served.engine.context_length - room]
    assert_resumes(served, replace(request, prompt=prompt))
