"""A parser that fails must cost neither the answer nor the engine: the rest of its answer becomes text."""

import logging
from collections.abc import Callable, Sequence

from worker.chat.parsing.pieces import AnswerParser, Piece, TextPiece, ToolCallPiece

__all__ = ["GuardedParser"]

log = logging.getLogger(__name__)


class GuardedParser:
    """An `AnswerParser` that passes everything on to another one until that raises an error.

    From then on the answer is text, beginning with the text that the other parser has held back.
    """

    def __init__(self, parser: AnswerParser) -> None:
        self._parser: AnswerParser | None = parser
        self._held = ""

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
            return self._plain()
        if pieces:
            self._held = _behind(pieces[-1], self._held)
        return pieces

    def _plain(self) -> Sequence[Piece]:
        text, self._held = self._held, ""
        return [TextPiece(text)] if text else []


def _behind(piece: Piece, text: str) -> str:
    """Return the part of the parsed text that is behind this piece."""
    if isinstance(piece, ToolCallPiece) or piece.text not in text:
        return ""
    return text[text.rfind(piece.text) + len(piece.text) :]
