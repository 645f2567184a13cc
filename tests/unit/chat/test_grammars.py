"""Tests of the grammars of structured answers, without a model."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models

from tests.support.chat.byte_tokenizer import END, TOKENIZER
from tests.support.chat.requests import chat_request
from worker.chat.grammar_tokenizer import grammar_tokenizer
from worker.chat.transformers_engine.grammars import KEPT_GRAMMARS, AnswerGrammar, Grammars
from worker.jobs.chat.grammars import check_grammar
from worker.jobs.chat.structured_outputs import StructuredOutputs
from worker.jobs.errors import InvalidStructure
from worker.jobs.prompt.template import PromptTemplate

#: The model has more scores than the tokenizer has tokens, as many models do.
SCORES = TOKENIZER.get_vocab_size() + 7
PROMPT = [1, 2, 3]


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    tokenizer = grammar_tokenizer(PromptTemplate(TOKENIZER.to_str(), ""), {END}, SCORES)
    assert tokenizer is not None
    return Grammars(tokenizer)


def test_grammar_tokenizer_that_llguidance_takes_for_other_text_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """transformers 5.17 makes such a tokenizer from a GGUF file."""
    mixed = Tokenizer.from_str(TOKENIZER.to_str())
    mixed.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.ByteLevel()])
    assert mixed.decode(mixed.encode("a\nb").ids) == "a\nb"
    assert grammar_tokenizer(PromptTemplate(mixed.to_str(), ""), {END}) is None
    assert "llguidance takes the tokens of" in caplog.text


def test_grammar_tokenizer_that_llguidance_cannot_read_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    whole_words = Tokenizer(models.WordLevel({"the": 0, "a": 1}, unk_token="a"))
    assert grammar_tokenizer(PromptTemplate(whole_words.to_str(), ""), {1}) is None
    assert "llguidance cannot read the tokenizer" in caplog.text


def start(grammars: Grammars, **outputs: Any) -> AnswerGrammar:
    asked = StructuredOutputs.model_validate(outputs)
    started = grammars.start_answer(chat_request("a", PROMPT, 9, structured_outputs=asked))
    assert started is not None
    return started


def allowed(grammar: AnswerGrammar, answer: str = "") -> set[str | None]:
    """Return the tokens that may follow an answer."""
    grammar.follow([*PROMPT, *TOKENIZER.encode(answer).ids])
    scores = torch.zeros(SCORES)
    grammar.mask(scores)
    return {TOKENIZER.id_to_token(int(token)) for token in scores.isfinite().nonzero()}


def test_grammar_follows_answer_to_its_end(grammars: Grammars) -> None:
    grammar = start(grammars, choice=["the", "ta"])
    assert allowed(grammar) == {"t", "th", "the"}
    assert allowed(grammar, "t") == {"h", "a"}
    assert allowed(grammar, "ta") == {"<|end|>"}
    assert not grammar.failed


def test_grammar_may_end_only_where_the_answer_is_whole(grammars: Grammars) -> None:
    assert "<|end|>" not in allowed(start(grammars, json={"type": "integer"}), "-")
    assert "<|end|>" in allowed(start(grammars, json={"type": "integer"}), "-12")
    assert "<|end|>" not in allowed(start(grammars, json_object=True), '{"a": 1')


def test_grammar_of_resumed_answer_is_that_of_the_whole_one(grammars: Grammars) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "yz"]}}, "required": ["a"]}
    text, whole = '{"a": "yz"}', start(grammars, json=schema)
    for size in range(len(text)):
        assert allowed(whole, text[:size]) == allowed(start(grammars, json=schema), text[:size])


def test_grammar_fails_at_token_that_it_does_not_allow(grammars: Grammars) -> None:
    grammar = start(grammars, choice=["the"])
    allowed(grammar, "cat")
    assert grammar.failed


@pytest.mark.parametrize(
    "outputs", [{"json": {"$ref": "#"}}, {"grammar": "start: start"}, {"regex": "[b&&a]"}]
)
def test_grammar_of_no_text_fails_before_the_first_token(grammars: Grammars, outputs: dict[str, Any]) -> None:
    grammar = start(grammars, **outputs)
    allowed(grammar)
    assert grammar.failed


def test_answers_of_one_grammar_do_not_share_their_place(grammars: Grammars) -> None:
    first, second = start(grammars, choice=["the", "ta"]), start(grammars, choice=["the", "ta"])
    assert allowed(first, "ta") == {"<|end|>"}
    assert allowed(second) == {"t", "th", "the"}
    assert deepcopy({"grammar": first})["grammar"] is first


def test_compiled_grammars_are_bounded(grammars: Grammars) -> None:
    for n in range(KEPT_GRAMMARS + 5):
        start(grammars, choice=[f"{n}"])
    assert len(grammars._compiled) == KEPT_GRAMMARS


def test_request_without_structure_has_no_grammar(grammars: Grammars) -> None:
    assert grammars.start_answer(chat_request("a", PROMPT, 9)) is None


@pytest.mark.parametrize(
    ("blanks", "may_be"),
    [(" ", True), ("\n", True), ("\n" + 16 * " ", True), ("  ", False), ("\t", False), ("\n" * 2, False)],
)
def test_json_has_few_blanks_between_its_parts(grammars: Grammars, blanks: str, may_be: bool) -> None:
    grammar = start(grammars, json={"type": "array", "items": {"type": "null"}, "minItems": 1})
    allowed(grammar, "[" + blanks)
    assert grammar.failed is not may_be


def test_options_in_a_schema_are_replaced() -> None:
    check_grammar(StructuredOutputs(json={"type": "object", "x-guidance": {"whitespace_pattern": "("}}))


@pytest.mark.parametrize("keyword", ["uniqueItems", "contains", "not", "if"])
def test_keyword_that_cannot_be_enforced_is_ignored_only_if_not_strict(keyword: str) -> None:
    schema: dict[str, Any] = {"type": "array", keyword: {}}
    with pytest.raises(InvalidStructure, match=keyword):
        check_grammar(StructuredOutputs(json=schema))
    check_grammar(StructuredOutputs(json=schema, strict=False))


@pytest.mark.parametrize(
    "outputs",
    [
        {"regex": "(" * 2000 + "a" + ")" * 2000},
        {"grammar": "start: " + "(" * 2000 + '"a"' + ")" * 2000},
        {"grammar": "root ::= " + "(" * 9000 + '"a"' + ")" * 9000},
        {"json": {"allOf": [{"type": "string", "pattern": f"^.*{n}.*$"} for n in range(30)]}},
        {"json": {"properties": {f"p{n}": {} for n in range(3000)}}},
        {"json": {"$ref": "http://127.0.0.1:1/schema.json"}},
    ],
)
def test_hostile_grammar_is_refused_in_one_line(outputs: dict[str, Any]) -> None:
    with pytest.raises(InvalidStructure) as refused:
        check_grammar(StructuredOutputs.model_validate(outputs))
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)
