"""Tests of answers that must be JSON of a schema, a choice, or text of a regular expression or a grammar."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import jsonschema
import pytest

from tests.support.chat.engines import SHORT_QUESTION, StartedEngine, chat, skip_unsupported
from tests.support.chat.schemas import CITY, TOWN, random_schema
from worker.chat.engine import ChatRequest
from worker.chat.transformers_engine.engine import TransformersEngine
from worker.jobs.errors import EngineFailed, InvalidStructure

#: Ambiguous beyond the limits of a parser: each text has more readings than letters.
AMBIGUOUS = 'start: s\ns: s s s | s s | "a"? "b"?'


@pytest.fixture(autouse=True)
def _skip(started: StartedEngine) -> None:
    skip_unsupported(started, "structured_outputs")


def structured(
    started: StartedEngine, id_: str, outputs: dict[str, Any], max_tokens: int = 80, **options: Any
) -> ChatRequest:
    return chat(started, id_, SHORT_QUESTION, max_tokens, structured_outputs=outputs, **options)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.long),
        pytest.param({"temperature": 1.5, "seed": 4}, marks=pytest.mark.long),
        {"temperature": 0.9, "top_p": 0.5, "top_k": 9, "seed": 5},
    ],
)
def test_structured_answer_has_its_form(started: StartedEngine, options: dict[str, Any]) -> None:
    """Run all forms in one batch."""
    forms: dict[str, dict[str, Any]] = {
        "json": {"json": TOWN},
        "choice": {"choice": ["green", "größer", "🎉"]},
        "regex": {"regex": r"[a-z]{3}-[0-9]{4}"},
        "lark": {"grammar": 'start: "yes" | "no"'},
        "gbnf": {"grammar": 'root ::= "x" [0-9] [0-9] "y"'},
    }
    crowd = [structured(started, name, outputs, **options) for name, outputs in forms.items()]
    started.run_requests(*crowd)
    texts = {name: started.recorder.text(name) for name in forms}
    assert [started.recorder.ends(name)[0].finish_reason for name in forms] == ["stop"] * len(forms)
    jsonschema.validate(json.loads(texts["json"]), TOWN)
    assert texts["choice"] in forms["choice"]["choice"]
    assert re.fullmatch(forms["regex"]["regex"], texts["regex"])
    assert texts["lark"] in ("yes", "no")
    assert re.fullmatch(r"x\d\dy", texts["gbnf"])


@pytest.mark.long
def test_structured_answer_does_not_change_others(started: StartedEngine) -> None:
    started.run_requests(chat(started, "alone"))
    alone = started.recorder.ids("alone")
    started.run_requests(chat(started, "beside"), structured(started, "json", {"json": CITY}))
    assert started.recorder.ids("beside") == alone


def test_structured_answer_ends_at_max_tokens(started: StartedEngine) -> None:
    started.run_requests(structured(started, "a", {"json": CITY}, max_tokens=5))
    assert started.recorder.ends("a")[0].finish_reason == "length"
    assert len(started.recorder.ids("a")) == 5
    assert started.recorder.text("a").startswith("{")


def test_structured_answer_has_logprobs_of_the_model(started: StartedEngine) -> None:
    """They are those before the grammar: the model itself would not begin with this text."""
    if not isinstance(started.engine, TransformersEngine):
        pytest.skip("vLLM's log-probabilities are those of the tokens that the grammar allows")
    forced = structured(started, "a", {"choice": ["QQQ"]}, logprobs=True, top_logprobs=1)
    deltas = started.run_requests(forced)["a"]
    first = deltas[0].logprobs[0]
    assert first["top_logprobs"][0]["token"] != first["token"]
    assert first["logprob"] < first["top_logprobs"][0]["logprob"]


@pytest.mark.parametrize(
    "outputs",
    [{"regex": "("}, {"grammar": "start: nothing"}, {"json": {"type": "text"}}, {"json": {"not": {}}}],
)
def test_structure_that_cannot_be_used_fails_only_its_request(
    started: StartedEngine, outputs: dict[str, Any]
) -> None:
    runs = started.run_requests(structured(started, "bad", outputs), chat(started, "good"))
    (end,) = runs["bad"]
    assert isinstance(end.error, InvalidStructure)
    assert runs["good"][-1].finish_reason == "length"


@pytest.mark.long
def test_grammar_that_is_too_ambiguous_fails_only_its_request(started: StartedEngine) -> None:
    outputs = {"grammar": AMBIGUOUS}
    bias = {str(token): 50.0 for token in first_tokens(started, "aaaa")}
    runs = started.run_requests(
        structured(started, "bad", outputs, max_tokens=300, logit_bias=bias), chat(started, "good")
    )
    end = runs["bad"][-1]
    assert isinstance(end.error, InvalidStructure | EngineFailed)
    assert runs["good"][-1].finish_reason == "length"


def first_tokens(started: StartedEngine, text: str) -> set[int]:
    tokenizer = started.engine.prompt_template.tokenizer
    return {
        tokenizer.encode(text[:size], add_special_tokens=False).ids[0] for size in range(1, len(text) + 1)
    }


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_answers_of_random_schemas_in_a_crowd_are_valid(
    engine_name: str, serve: Callable[..., StartedEngine]
) -> None:
    """Run 32 at once, greedy and sampled in turn."""
    crowded = serve(engine_name, slots=32, context_length=1024)
    schemas = {str(n): random_schema(Random(n)) for n in range(200)}
    crowd = [
        structured(crowded, name, {"json": schema}, 800, temperature=int(name) % 2 * 1.0, seed=int(name))
        for name, schema in schemas.items()
    ]
    for begin in range(0, len(crowd), 50):  # the recorder waits for each group
        group = crowd[begin : begin + 50]
        crowded.run_requests(*group)
        for request in group:
            text, schema = crowded.recorder.text(request.id), schemas[request.id]
            assert crowded.recorder.ends(request.id)[0].finish_reason == "stop", (text, schema)
            jsonschema.validate(json.loads(text), schema)
