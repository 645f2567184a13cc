"""The pieces of an answer, and the interface of the parsers that find them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["AnswerParser", "Piece", "ReasoningPiece", "TextPiece", "ToolCallPiece", "join"]


class TextPiece(NamedTuple):
    """Text for the user."""

    text: str


class ReasoningPiece(NamedTuple):
    """Text of the model's reasoning, which precedes the answer."""

    text: str


class ToolCallPiece(NamedTuple):
    """A part of a call of a tool.

    - `number`: the number of the call in the answer, from 0.
    - `name`: the name of the tool, in the first piece of a call and only there.
    - `arguments`: a part of the JSON text of the arguments. The parts of all pieces of a call make it up.
    """

    number: int
    name: str | None
    arguments: str


Piece = TextPiece | ReasoningPiece | ToolCallPiece


def join(first: Piece, second: Piece) -> Piece | None:
    """Return two pieces that follow each other as one; None if they are not of one kind or call."""
    if isinstance(first, TextPiece):  # first, because most answers are only text
        return TextPiece(first.text + second.text) if isinstance(second, TextPiece) else None
    if isinstance(first, ReasoningPiece):
        return ReasoningPiece(first.text + second.text) if isinstance(second, ReasoningPiece) else None
    if isinstance(second, ToolCallPiece) and first.number == second.number:
        return first._replace(arguments=first.arguments + second.arguments)
    return None


class AnswerParser(Protocol):
    """A parser of one answer. It is fed with the answer step by step, as the engine produces it.

    Equal steps give equal pieces. So a parser that is fed with the steps of an earlier attempt continues as
    that attempt would have.
    """

    def feed(self, text: str, token_ids: Sequence[int]) -> Sequence[Piece]:
        """Add the text and the token ids of a step, and return the pieces that are final now."""

    def finish(self) -> Sequence[Piece]:
        """Return the pieces that were held back, because the answer has ended."""
