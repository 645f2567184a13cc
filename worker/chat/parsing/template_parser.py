"""The parser of transformers, which reads answers by a declarative response template."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from worker.chat.parsing.pieces import Piece, ReasoningPiece, TextPiece, ToolCallPiece

__all__ = ["TemplateParser", "is_available"]

#: Modules with `ResponseParser`: transformers since 5.20, and vLLM, which asks for an older transformers.
MODULES = ("transformers.utils.chat_parsing", "vllm.parser.chat_parsing")
#: The names that templates give to reasoning.
REASONING = ("reasoning", "reasoning_content", "thinking")


def is_available() -> bool:
    """Return whether the parser is installed here."""
    return _module() is not None


@cache
def _module() -> str | None:
    return next((name for name in MODULES if _is_installed(name)), None)


def _is_installed(module: str) -> bool:
    """Return whether a module of a package is installed. This imports nothing, for that takes seconds."""
    package, *path = module.split(".")
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    return any(Path(folder, *path).exists() for folder in folders or ())


class TemplateParser:
    """An `AnswerParser` with a response template. A call of a tool is passed on when it is complete.

    `prefix` is the part of the answer that is already in the prompt, such as `<think>`. `tools` are the tools
    of the chat in OpenAI's form: their schemas tell the types of arguments that a model writes without types.
    """

    def __init__(
        self, template: Mapping[str, Any], prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        parser_class = import_module(_module() or MODULES[0]).ResponseParser
        self._parser = parser_class(dict(template), prefix=prefix, tools=list(tools))
        self._calls = 0

    def feed(self, text: str, token_ids: Sequence[int]) -> Sequence[Piece]:
        """Add the text of a step, and return the pieces that are final now (`AnswerParser`)."""
        return list(self._pieces(self._parser.feed(text)))

    def finish(self) -> Sequence[Piece]:
        """Return the pieces that were held back (`AnswerParser`). Raises for an incomplete call."""
        return list(self._pieces(self._parser.finalize()[1]))

    def _pieces(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Piece]:
        for event in events:
            if event["type"] == "region_malformed":  # vLLM's copy of the parser raises no error itself
                raise ValueError(event["error"])
            if event["field"] == "tool_calls":
                if event["type"] == "region_close":
                    yield from self._calls_in(event["value"])
            elif event["type"] == "region_chunk":
                yield (ReasoningPiece if event["field"] in REASONING else TextPiece)(event["text"])

    def _calls_in(self, value: Any) -> Iterator[ToolCallPiece]:
        """Yield the call or calls of a region. Raises an error if it is no call."""
        function = value["function"]
        for call in function if isinstance(function, list) else [function]:
            name, arguments = call["name"], call.get("arguments", {})
            if not isinstance(name, str):
                raise TypeError("the name of a tool is no text")
            text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            yield ToolCallPiece(self._calls, name, text)
            self._calls += 1
