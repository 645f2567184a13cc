"""Reads calls of tools from a JSON answer in the form of `worker.jobs.chat.tool_schema`."""

import json
import re
from collections.abc import Sequence

from worker.chat.parsing.pieces import Piece, TextPiece, ToolCallPiece

__all__ = ["JsonCallsParser"]

#: What stands between two calls, and the beginning of a call up to the first character of its arguments.
HEAD = re.compile(r'[\s\[\]},]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\S)')
#: Characters that may stand behind the last call.
TAIL = " \t\r\n]},"


class JsonCallsParser:
    """An `AnswerParser` of one object {"name": …, "arguments": …}, or of an array of them.

    The arguments are passed on as they come. An answer of another form becomes text when it ends.
    """

    def __init__(self) -> None:
        self._held = ""
        self._calls = 0
        self._arguments: _ValueEnd | None = None  # while they are read

    def feed(self, text: str, token_ids: Sequence[int]) -> Sequence[Piece]:
        """Add the text of a step, and return the pieces that are final now (`AnswerParser`)."""
        self._held += text
        pieces = list[Piece]()
        while self._held:
            name = None
            if self._arguments is None:
                if (head := HEAD.match(self._held)) is None:
                    break
                self._held = self._held[head.end() :]
                self._arguments, name = _ValueEnd(), json.loads(head[1])
            end = self._arguments.find(self._held)
            given, self._held = self._held[:end], "" if end is None else self._held[end:]
            pieces.append(ToolCallPiece(self._calls, name, given))
            if end is not None:
                self._arguments = None
                self._calls += 1
        return pieces

    def finish(self) -> Sequence[Piece]:
        """Return what is no call as text (`AnswerParser`): the answer may have ended within a name."""
        rest = self._held.lstrip(TAIL) if self._calls else self._held
        return [TextPiece(rest)] if rest else []


class _ValueEnd:
    """Finds the end of a JSON value in a text that comes in pieces. The first piece begins with the value."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, text: str) -> int | None:
        """Return the position in this piece that is just behind the value; None if it goes on."""
        for position, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
                if not (self._in_string or self._depth):
                    return position + 1
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif not self._depth and (character in ",}]" or character.isspace()):  # behind a number or a word
                return position
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return position + 1
        return None
