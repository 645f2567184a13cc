"""Limits an answer to one call of a tool, whatever the model says."""

from collections.abc import Iterable, Sequence

from worker.chat.parsing.pieces import AnswerParser, Piece, ToolCallPiece

__all__ = ["OneCall"]


class OneCall:
    """An `AnswerParser` that passes everything on to another one, and drops all calls but the first."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser

    def feed(self, text: str, token_ids: Sequence[int]) -> Sequence[Piece]:
        """Add the text and the token ids of a step, and return the pieces that are final now."""
        return _limited(self._parser.feed(text, token_ids))

    def finish(self) -> Sequence[Piece]:
        """Return the pieces that were held back, because the answer has ended."""
        return _limited(self._parser.finish())


def _limited(pieces: Iterable[Piece]) -> Sequence[Piece]:
    return [piece for piece in pieces if not (isinstance(piece, ToolCallPiece) and piece.number)]
