"""Tests of resumed requests: the answer continues as if it had never been interrupted."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from tests.support.chat.engines import SHORT_QUESTION, StartedEngine, chat, skip_unsupported
from tests.support.chat.requests import with_sampling
from tests.support.chat.schemas import CITY, TOWN
from worker.chat.engine import ChatRequest, Delta

EMOJI = "Repeat exactly: 🎉🎊🦄 こんにちは 你好 Ω≈ç√ 🎉🎊🦄"


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def undisturbed(started: StartedEngine, request: ChatRequest) -> list[Delta]:
    return started.run_requests(request)[request.id]


def assert_resumes(started: StartedEngine, request: ChatRequest) -> None:
    """Cut the answer before each of its tokens and resume it there.

    The rest must have the same text, ids and finish reason as the undisturbed answer.
    """
    if request.sampling.temperature > 0 and not started.keeps_draws:
        pytest.skip("this model runner of vLLM starts the draws of a seed again")
    whole = undisturbed(started, request)
    ids = started.recorder.ids(request.id)
    assert len(ids) == len(whole)
    rest = [replace(request, id=f"from {n}", generated_ids=ids[:n]) for n in range(len(ids))]
    for n, (name, deltas) in enumerate(started.run_requests(*rest).items()):
        assert text(deltas) == text(whole[n:]), f"{name} of {whole}"
        assert started.recorder.ids(name) == ids[n:]
        assert deltas[-1].finish_reason == whole[-1].finish_reason


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.long),
        pytest.param({"temperature": 1.0, "seed": 11}, marks=pytest.mark.long),
        {"temperature": 0.8, "top_p": 0.9, "seed": 3},
    ],
)
def test_resume_continues_at_any_cut(started: StartedEngine, options: dict[str, Any]) -> None:
    assert_resumes(started, chat(started, "a", **options))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"ignore_eos": True}, marks=pytest.mark.long),
        pytest.param({"min_tokens": 10, "temperature": 1.0, "seed": 11}, marks=pytest.mark.long),
        {"min_tokens": 9, "stop": ["a"]},
    ],
)
def test_resume_keeps_min_tokens_at_any_cut(started: StartedEngine, options: dict[str, Any]) -> None:
    assert_resumes(started, chat(started, "a", SHORT_QUESTION, max_tokens=12, **options))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"presence_penalty": 1.5, "frequency_penalty": 0.5}, marks=pytest.mark.long),
        pytest.param({"presence_penalty": -2, "temperature": 1.0, "seed": 2}, marks=pytest.mark.long),
        pytest.param({"frequency_penalty": 2}, marks=pytest.mark.long),
        pytest.param({"repetition_penalty": 1.3}, marks=pytest.mark.long),
        pytest.param({"logit_bias": {"28": 9.5, "30": 9, "198": -100}}, marks=pytest.mark.long),
        pytest.param({"top_k": 4, "temperature": 1.5, "seed": 5}, marks=pytest.mark.long),
        pytest.param({"min_p": 0.05, "top_k": 50, "temperature": 1.5, "seed": 5}, marks=pytest.mark.long),
        {"bad_words": ["dragon", "a time", "there"], "repetition_penalty": 1.1},
    ],
)
def test_resume_keeps_rules_of_tokens_at_any_cut(started: StartedEngine, options: dict[str, Any]) -> None:
    skip_unsupported(started, *options)
    assert_resumes(started, chat(started, "a", **options))


@pytest.mark.parametrize(
    ("schema", "options"),
    [
        pytest.param(TOWN, {}, marks=pytest.mark.long),
        (TOWN, {"temperature": 1.2, "top_p": 0.9, "seed": 3}),
        pytest.param(CITY, {}, marks=pytest.mark.long),
        pytest.param(CITY, {"frequency_penalty": 0.6, "repetition_penalty": 1.1}, marks=pytest.mark.long),
    ],
)
def test_resume_keeps_grammar_at_any_cut(
    started: StartedEngine, schema: dict[str, Any], options: dict[str, Any]
) -> None:
    skip_unsupported(started, "structured_outputs", *options)
    if not started.keeps_draws:
        options = {name: value for name, value in options.items() if "penalty" in name}  # greedy
    outputs = {"json": schema}
    request = chat(started, "a", "Describe Paris.", max_tokens=80, structured_outputs=outputs, **options)
    assert_resumes(started, request)
    jsonschema.validate(json.loads(started.recorder.text("from 0")), schema)


@pytest.mark.parametrize("included", [pytest.param(False, marks=pytest.mark.long), True])
def test_resume_finds_stop_token_at_any_cut(started: StartedEngine, included: bool) -> None:
    skip_unsupported(started, "stop_token_ids", "include_stop_str_in_output")
    undisturbed(started, chat(started, "a"))
    options: dict[str, Any] = {
        "stop_token_ids": list(started.recorder.ids("a")[9:12]),
        "min_tokens": 9,
        "include_stop_str_in_output": included,
    }
    assert_resumes(started, chat(started, "a", **options))


def test_resume_keeps_logprobs_at_any_cut(started: StartedEngine) -> None:
    skip_unsupported(started, "logprobs", "top_logprobs")
    request = chat(started, "a", logprobs=True, top_logprobs=2, temperature=0)
    whole = undisturbed(started, request)
    ids = started.recorder.ids("a")
    rest = [replace(request, id=f"from {n}", generated_ids=ids[:n]) for n in range(0, len(ids), 4)]
    for n, deltas in zip(range(0, len(ids), 4), started.run_requests(*rest).values(), strict=True):
        for delta, other in zip(deltas, whole[n:], strict=True):
            ((entry,), (same,)) = delta.logprobs, other.logprobs
            assert entry["token"] == same["token"]
            assert entry["logprob"] == pytest.approx(same["logprob"], abs=1e-2)


@pytest.mark.long
def test_resume_finds_stop_string_at_any_cut(started: StartedEngine) -> None:
    stop = text(undisturbed(started, chat(started, "a")))[9:34]
    request = chat(started, "a", stop=["never said", stop])
    assert (
        undisturbed(started, request)[-2].text == ""
    )  # held back, because the stop string has several tokens
    assert_resumes(started, request)


@pytest.mark.long
def test_resume_emits_partial_stop_string_at_any_cut(started: StartedEngine) -> None:
    answer = text(undisturbed(started, chat(started, "a")))
    request = chat(started, "a", stop=[answer[4:30] + "\0", answer[-9:] + "\0"])
    assert text(undisturbed(started, request)) == answer
    assert_resumes(started, request)


@pytest.mark.long
def test_resume_keeps_characters_whole_at_any_cut(started: StartedEngine) -> None:
    request = chat(started, "a", EMOJI, max_tokens=20)
    assert any(ord(character) > 0xFFFF for character in text(undisturbed(started, request)))
    assert_resumes(started, request)


def test_resume_without_room_for_token_emits_held_back_text(started: StartedEngine) -> None:
    answer = text(undisturbed(started, chat(started, "a")))
    request = chat(started, "a", stop=[answer[-3:] + "\0"], max_tokens=17)
    before = undisturbed(started, request)[:16]
    assert text(before) == answer[:-3]
    full = replace(with_sampling(request, max_tokens=16), generated_ids=started.recorder.ids("a")[:16])
    assert undisturbed(started, full) == [Delta("a", answer[-3:], (), "length")]


def test_resume_is_limited_by_context_length(started: StartedEngine) -> None:
    room = 5
    request = chat(started, "a", max_tokens=400)
    prompt = [*request.prompt, *[9] * started.engine.context_length][: started.engine.context_length - room]
    assert_resumes(started, replace(request, prompt=prompt))
