"""Tests of the parser with response templates, on texts as models write them."""

import pytest

from tests.support.chat.pieces import parse
from worker.chat.parsing.formats import REASONING_FORMATS, TOOL_FORMATS, format_in, response_template
from worker.chat.parsing.guarded import GuardedParser
from worker.chat.parsing.pieces import Piece, ReasoningPiece, TextPiece, ToolCallPiece
from worker.chat.parsing.template_parser import TemplateParser, is_available

if not is_available():
    pytest.skip("this version of transformers has no ResponseParser", allow_module_level=True)

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    }
]
#: By name: the formats of tools and reasoning, a prefix, an answer, and its pieces.
RECORDED: dict[str, tuple[str | None, str | None, str, str, list[Piece]]] = {
    "Qwen3": (
        "hermes",
        "think",
        "",
        "<think>\nThe user asks for <b>two</b>.\n</think>\n\nI look.\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é \\"x\\""}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        [
            ReasoningPiece("The user asks for <b>two</b>."),
            TextPiece("I look."),
            ToolCallPiece(0, "add", '{"a": 1, "b": "é \\"x\\""}'),
            ToolCallPiece(1, "now", "{}"),
        ],
    ),
    "SmolLM2": (
        "hermes",
        None,
        "",
        '<tool_call>[{"name": "add", "arguments": {"a": 1}}, {"name": "now"}]</tool_call>',
        [ToolCallPiece(0, "add", '{"a": 1}'), ToolCallPiece(1, "now", "{}")],
    ),
    "Qwen3-Coder": (
        "qwen3_coder",
        "think",
        "<think>\n",
        "Hm.\n</think>\n\n<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n"
        "<parameter=b>\n  two\nlines\n</parameter>\n</function>\n</tool_call>",
        [ReasoningPiece("Hm."), ToolCallPiece(0, "add", '{"a": 1, "b": "  two\\nlines"}')],
    ),
    "Gemma 4": (
        "gemma4",
        "gemma4",
        "",
        '<|channel>thought\nHm.\n<channel|>Yes.<|tool_call>call:add{a:1,b:<|"|>it\'s<|"|>}<tool_call|>',
        [
            ReasoningPiece("Hm."),
            TextPiece("Yes."),
            ToolCallPiece(0, "add", '{"a": 1, "b": "it\'s"}'),
        ],
    ),
    "reasoning alone": (
        None,
        "think",
        "",
        "<think>a < b</think>c <tool_call>",
        [ReasoningPiece("a < b"), TextPiece("c <tool_call>")],
    ),
    "reasoning that is cut": (None, "think", "<think>", "a\n", [ReasoningPiece("a\n")]),
    "plain text": ("hermes", "think", "", " a <thin> b\n", [TextPiece(" a <thin> b\n")]),
    "nothing": ("hermes", "think", "", "", []),
    "call that is cut behind reasoning": (
        "hermes",
        "think",
        "",
        '<think>Hm.</think>\n\n<tool_call>{"name": "a',
        [ReasoningPiece("Hm."), TextPiece('<tool_call>{"name": "a')],
    ),
    "call that is cut behind calls": (
        "hermes",
        None,
        "",
        '<tool_call>[{"name": "now"}, {"name": "now"}]</tool_call>\n<tool_call>{"name": "a',
        [ToolCallPiece(0, "now", "{}"), ToolCallPiece(1, "now", "{}"), TextPiece('<tool_call>{"name": "a')],
    ),
    "call that is cut": (
        "hermes",
        "think",
        "",
        'Hi <tool_call>{"name": "a',
        [TextPiece('Hi <tool_call>{"name": "a')],
    ),
    "call that is no JSON": (
        "hermes",
        "think",
        "",
        "Hi <tool_call>{x}</tool_call> and so on",
        [TextPiece("Hi <tool_call>{x}</tool_call> and so on")],
    ),
}


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("name", RECORDED)
def test_answer_is_parsed_in_whatever_parts_it_comes(name: str, size: int) -> None:
    tools, reasoning, prefix, text, expected = RECORDED[name]
    parser = GuardedParser(TemplateParser(response_template(tools, reasoning), prefix, TOOLS))
    assert parse(parser, text, size) == expected


@pytest.mark.parametrize(
    ("chat_template", "tools", "reasoning"),
    [
        ("{{ '<tool_call>' }} <think>", "hermes", "think"),
        ("<tool_call><function=x>", "qwen3_coder", None),
        ("<|channel>thought <|tool_call>", "gemma4", "gemma4"),
        ("{{ messages }}", None, None),
    ],
)
def test_format_is_told_from_the_chat_template(
    chat_template: str, tools: str | None, reasoning: str | None
) -> None:
    assert format_in(chat_template, TOOL_FORMATS) == tools
    assert format_in(chat_template, REASONING_FORMATS) == reasoning


def test_text_behind_the_last_piece_is_kept_when_a_parser_fails() -> None:
    text = '<think>a</think>b <tool_call>{"arguments": {}}</tool_call> <tool_call>'
    parser = GuardedParser(TemplateParser(response_template("hermes", "think")))
    rest = text[text.index(" <tool_call>") :]
    assert parse(parser, text, 1) == [ReasoningPiece("a"), TextPiece("b" + rest)]


class _Fails:
    """A parser that holds back the last character, and fails at a step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.held = ""

    def feed(self, text: str, token_ids: object) -> list[Piece]:
        self.step -= 1
        if not self.step:
            raise RuntimeError("unforeseen")
        text, self.held = self.held + text[:-1], text[-1:]
        return [TextPiece(text)]

    def finish(self) -> list[Piece]:
        raise RuntimeError("unforeseen")


@pytest.mark.parametrize("step", range(1, 6))
def test_no_text_is_lost_when_a_parser_fails(step: int) -> None:
    """It fails at one of the steps, or at the end."""
    assert parse(GuardedParser(_Fails(step)), "abcdefgh", 2) == [TextPiece("abcdefgh")]
