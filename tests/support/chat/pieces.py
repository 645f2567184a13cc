"""Feeds parsers of answers, and joins the pieces that they return."""

from collections.abc import Iterable, Sequence

from worker.chat.parsing.pieces import AnswerParser, Piece, ToolCallPiece, join

__all__ = ["joined", "parse"]


def parse(parser: AnswerParser, text: str, size: int) -> Sequence[Piece]:
    """Feed the text in parts of `size` characters, and return the pieces that make up the answer."""
    pieces = list[Piece]()
    for start in range(0, len(text), size):
        pieces += parser.feed(text[start : start + size], ())
    return joined([*pieces, *parser.finish()])


def joined(pieces: Iterable[Piece]) -> Sequence[Piece]:
    """Return the pieces with adjacent ones of the same kind, or of the same call, as one."""
    found = list[Piece]()
    for piece in pieces:
        if found and (both := join(found[-1], piece)):
            assert not isinstance(piece, ToolCallPiece) or piece.name is None
            found[-1] = both
        else:
            found.append(piece)
    return found
