"""Tests of vLLM's own parsers, on the tokens of texts as models write them."""

from importlib.util import find_spec

import pytest

from tests.support.assets import asset
from tests.support.chat.engines import MODEL
from tests.support.chat.pieces import joined
from worker.chat.checkpoint import read_model
from worker.chat.parsing.model_parsers import ModelParsers
from worker.chat.parsing.pieces import Piece, ReasoningPiece, TextPiece, ToolCallPiece
from worker.jobs.chat.tools import ToolOptions
from worker.jobs.errors import ConfigurationError
from worker.jobs.prompt.template import PromptTemplate

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed", allow_module_level=True)

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
HERMES = (
    "<think>\nHm.\n</think>\n\nI look.\n"
    '<tool_call>\n{"name": "add", "arguments": {"a": "é"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def template() -> PromptTemplate:
    return read_model(asset(MODEL)).prompt_template


def parse(parsers: ModelParsers, text: str, tools: bool = True) -> list[Piece]:
    parser = parsers.make(ToolOptions.model_validate({"tools": TOOLS if tools else []}), [1, 2, 3])
    assert parser is not None
    pieces = list[Piece]()
    for token in parsers.tokenizer.encode(text, add_special_tokens=False).ids:
        pieces += parser.feed(parsers.tokenizer.decode([token]), [token])
    return [*joined([*pieces, *parser.finish()])]


def test_vllm_parsers_find_reasoning_and_calls(template: PromptTemplate) -> None:
    assert parse(ModelParsers(template, "hermes", "qwen3", vllm=True), HERMES) == [
        ReasoningPiece("\nHm.\n"),
        TextPiece("\n\nI look.\n"),
        ToolCallPiece(0, "add", '{"a": "é"}'),
        ToolCallPiece(1, "add", "{}"),
    ]


def test_vllm_parser_of_tools_alone_leaves_the_rest(template: PromptTemplate) -> None:
    parsers = ModelParsers(template, "hermes", None, vllm=True)
    assert [type(piece) for piece in parse(parsers, HERMES)] == [TextPiece, ToolCallPiece, ToolCallPiece]
    assert parsers.make(ToolOptions(), [1]) is None


@pytest.mark.parametrize("names", [("no_such_parser", None), (None, "no_such_parser"), (None, "deepseek_r1")])
def test_vllm_parser_that_cannot_be_used_is_named_at_the_start(
    template: PromptTemplate, names: tuple[str | None, str | None]
) -> None:
    """The tokenizer has no token that DeepSeek's parser needs."""
    with pytest.raises(ConfigurationError, match="vLLM cannot parse answers so"):
        ModelParsers(template, *names, vllm=True)
