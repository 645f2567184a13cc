"""The parsers of vLLM, by the names that its server has for them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import TokenizersBackend
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import ParserManager

from worker.chat.parsing.pieces import Piece, ReasoningPiece, TextPiece, ToolCallPiece
from worker.jobs.errors import ConfigurationError
from worker.jobs.prompt.template import PromptTemplate

__all__ = ["VllmParser", "VllmParsers"]


class VllmParsers:
    """The parsers of these names, for answers of the model with this prompt template.

    Raises `ConfigurationError` if vLLM has no such parser, or if it cannot parse this model's answers.
    """

    def __init__(self, template: PromptTemplate, tools: str | None, reasoning: str | None) -> None:
        self._tokenizer = TokenizersBackend(  # type: ignore[no-untyped-call]
            tokenizer_object=template.tokenizer, **template.special_tokens
        )
        self._tools = tools
        self._reasoning = reasoning
        try:
            for parse_tools in (True, False):
                self._make(parse_tools, [], ())
        except Exception as error:  # TypeError for a name, and anything for a tokenizer that does not fit
            raise ConfigurationError(f"vLLM cannot parse answers so: {error}") from error

    def make(self, tools: Sequence[Mapping[str, Any]], prompt: Sequence[int]) -> "VllmParser | None":
        """Return a parser of the answer to a prompt; None if there is nothing to parse.

        It parses calls if there are tools, in OpenAI's form.
        """
        return self._make(bool(tools), tools, prompt)

    def _make(
        self, parse_tools: bool, tools: Sequence[Mapping[str, Any]], prompt: Sequence[int]
    ) -> "VllmParser | None":
        parser_class = ParserManager.get_parser(
            tool_parser_name=self._tools if parse_tools else None,
            reasoning_parser_name=self._reasoning,
            enable_auto_tools=True,
        )
        if parser_class is None:
            return None
        message = {"role": "user", "content": ""}
        request = ChatCompletionRequest(messages=[message], tools=list(tools) or None)
        return VllmParser(parser_class(self._tokenizer, request.tools), request, prompt)


class VllmParser:
    """An `AnswerParser` with a parser of vLLM."""

    def __init__(self, parser: Any, request: ChatCompletionRequest, prompt: Sequence[int]) -> None:
        self._parser = parser
        self._request = request
        self._prompt = list(prompt)

    def feed(self, text: str, token_ids: Sequence[int]) -> Sequence[Piece]:
        """Add a step, and return the pieces that are final now (`AnswerParser`)."""
        return self._parse(text, token_ids, finished=False)

    def finish(self) -> Sequence[Piece]:
        """Return the pieces that were held back (`AnswerParser`)."""
        return self._parse("", (), finished=True)

    def _parse(self, text: str, token_ids: Sequence[int], finished: bool) -> Sequence[Piece]:
        delta = self._parser.parse_delta(
            text, list(token_ids), self._request, prompt_token_ids=self._prompt, finished=finished
        )
        return list(_pieces(delta)) if delta else []


def _pieces(delta: Any) -> Iterator[Piece]:
    if delta.reasoning:
        yield ReasoningPiece(delta.reasoning)
    if delta.content:
        yield TextPiece(delta.content)
    for call in delta.tool_calls or ():
        yield ToolCallPiece(call.index, call.function.name, call.function.arguments or "")
