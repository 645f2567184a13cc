"""A parser that fails must cost neither the answer nor the engine: the rest of its answer becomes text."""

import logging
import re
from collections.abc import Callable, Sequence

from worker.chat.parsing.pieces import AnswerParser, Piece, ReasoningPiece, TextPiece, ToolCallPiece

__all__ = ["GuardedParser"]

log = logging.getLogger(__name__)

#: The ends of calls and of reasoning in our formats (`formats`). They are passed on in no piece.
CALL_END = re.compile(r"(?:</tool_call>|<tool_call\|>)\s*")
REASONING_END = re.compile(r"\s*(?:</think>|<channel\|>)\s*")


class GuardedParser:
    """An `AnswerParser` that passes everything on to another one until that raises an error.

    From then on the answer is text, beginning with the text that the other parser has held back.
    """

    def __init__(self, parser: AnswerParser) -> None:
        self._parser: AnswerParser | None = parser
        self._held = ""
        self._reasons = False

    def feed(self, text: str, token_ids: Sequence[int]) -> Sequence[Piece]:
        """Add the text and the token ids of a step, and return the pieces that are final now."""
        self._held += text
        parser = self._parser
        return self._guarded(lambda: parser.feed(text, token_ids)) if parser else self._plain()

    def finish(self) -> Sequence[Piece]:
        """Return the pieces that were held back, because the answer has ended."""
        parser = self._parser
        return self._guarded(parser.finish) if parser else self._plain()

    def _guarded(self, parse: Callable[[], Sequence[Piece]]) -> Sequence[Piece]:
        try:
            pieces = parse()
        except Exception as error:  # a parser meets everything that a model can say
            log.info("the rest of an answer is not parsed: %s", error)
            self._parser = None
            end = REASONING_END.match(self._held) if self._reasons else None
            self._held = self._held[end.end() if end else 0 :]
            return self._plain()
        if pieces:
            self._held = _behind(pieces, self._held)
            self._reasons = isinstance(pieces[-1], ReasoningPiece)
        return pieces

    def _plain(self) -> Sequence[Piece]:
        text, self._held = self._held, ""
        return [TextPiece(text)] if text else []


def _behind(pieces: Sequence[Piece], text: str) -> str:
    """Return the part of the parsed text that is behind these pieces."""
    at, called = 0, False
    for piece in pieces:
        if isinstance(piece, ToolCallPiece):
            end = CALL_END.search(text, at)
            if end or not called:  # some models write several calls in one region
                at, called = end.end() if end else len(text), True
        else:
            found = text.find(piece.text, at)
            at = len(text) if found < 0 else found + len(piece.text)
    return text[at:]
