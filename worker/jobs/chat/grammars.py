"""The grammars of structured answers, for llguidance, which masks the tokens that would break them.

The API checks a grammar before it queues a chat. The engines compile the same grammar.
"""

import json
from typing import TYPE_CHECKING

from worker.jobs.chat.structured_outputs import StructuredOutputs
from worker.jobs.errors import InvalidStructure

if TYPE_CHECKING:
    from llguidance import LLParserLimits

__all__ = ["TOO_COMPLEX", "check_grammar", "grammar_limits", "grammar_text", "schema_text"]

#: Between the parts of JSON: nothing, a blank, or a line break with up to 16 blanks. Without a limit, a small
#: model may write only blanks.
JSON_OPTIONS = {"whitespace_pattern": r"( |\n {0,16})?"}
#: Why an answer fails when its grammar needs more than the limits allow.
TOO_COMPLEX = "the grammar is too complex to continue this answer, or allows no text"
#: Characters of llguidance's message that a client gets. A message can contain a whole grammar.
MESSAGE_CHARS = 300


def grammar_text(asked: StructuredOutputs) -> str:
    """Return the grammar in llguidance's own form. Raises `InvalidStructure` if it cannot be converted."""
    from llguidance import LLMatcher, grammar_from

    if asked.regex is not None:
        return LLMatcher.grammar_from_regex(asked.regex)
    if asked.choice is not None:
        return grammar_from("choice", json.dumps(asked.choice))
    if asked.grammar is None:
        return LLMatcher.grammar_from_json_schema(schema_text(asked))
    try:
        return grammar_from("grammar", asked.grammar)
    except (ValueError, RecursionError) as error:
        raise InvalidStructure(_short(str(error))) from error


def schema_text(asked: StructuredOutputs) -> str:
    """Return the JSON schema with our options for llguidance, which replace a client's own."""
    options = JSON_OPTIONS | {"lenient": not asked.strict}
    return json.dumps({**(asked.json_schema or {"type": "object"}), "x-guidance": options})


def grammar_limits() -> "LLParserLimits":
    """Return limits that keep the compilation below a second, and each mask below about 0.1 s.

    With llguidance's own limits, a mask of a very ambiguous grammar took 5 s, in which no chat went on.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_items_in_row=500,
        step_max_items=5000,
        max_lexer_states=50_000,
        max_grammar_size=5000,
        verbose_errors=False,
    )


def check_grammar(asked: StructuredOutputs) -> None:
    """Raise `InvalidStructure` if no grammar can be made of this. It takes milliseconds, at most a second."""
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar_text(asked), limits=grammar_limits())
    if failed:
        raise InvalidStructure(_short(messages[0]))


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_CHARS else f"{line[:MESSAGE_CHARS]}…"
