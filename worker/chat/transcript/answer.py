"""The content of one choice: its text, its reasoning and its calls of tools, and the events that log them."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from worker.chat.parsing.pieces import Piece, ReasoningPiece, TextPiece, ToolCallPiece, join
from worker.jobs.chat.logprobs import TokenLogprob
from worker.jobs.events import AnswerEvent, LoggedEvent, Reasoning, Token, ToolCall

__all__ = ["Answer"]


def _is_json(arguments: str) -> bool:
    """Return whether the arguments of a call are complete. Some models write none."""
    try:
        from_json(arguments or "{}")
    except ValueError:
        return False
    return True


@dataclass(slots=True)
class _Part:
    """A piece that has no event yet, and the tokens that it comes from."""

    piece: Piece
    ids: list[int]
    logprobs: list[TokenLogprob]


class Answer:
    """The content of a choice as it grows, over all attempts at the job.

    `choice` is the number of the choice, if the chat has several. With `hidden_reasoning`, the text of the
    reasoning is neither logged nor a part of the result.
    """

    def __init__(self, job_id: str, choice: int | None = None, hidden_reasoning: bool = False) -> None:
        self._job_id = job_id
        self._choice = choice
        self._hidden_reasoning = hidden_reasoning
        self._parts: list[_Part] = []
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}

    def load(self, event: LoggedEvent) -> None:
        """Add the content of an event that an earlier attempt has logged."""
        data = event.data
        match event.type:
            case Token.type:
                self._texts.append(data["text"])
            case Reasoning.type:
                self._reasoning.append(data["text"])
            case ToolCall.type:
                self._add_call(data["index"], data.get("name"), data["arguments"])

    def add(self, pieces: Iterable[Piece], ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> None:
        """Add pieces, and the tokens that they come from."""
        for piece in pieces:
            last = self._parts[-1] if self._parts else None
            if last and (both := join(last.piece, piece)):
                last.piece = both
                last.ids += ids
                last.logprobs += logprobs
            else:
                self._parts.append(_Part(piece, [*ids], [*logprobs]))
            ids, logprobs = (), ()

    @property
    def has_calls(self) -> bool:
        """True if there are calls of tools. The last one may lack its end, where a stop string was found."""
        pieces = [part.piece for part in self._parts if isinstance(part.piece, ToolCallPiece)]
        if not (pieces or self._calls):
            return False
        last = pieces[-1].number if pieces else max(self._calls)
        logged = self._calls[last]["function"]["arguments"] if last in self._calls else ""
        return _is_json(logged + "".join(piece.arguments for piece in pieces if piece.number == last))

    @property
    def new_tokens(self) -> int:
        """The number of tokens that have no event yet."""
        return sum(len(part.ids) for part in self._parts)

    def take_events(self, index: int) -> Iterator[AnswerEvent]:
        """Yield the events of the new pieces. `index` is the number of tokens that have events already."""
        parts, self._parts = self._parts, []
        for part in parts:
            yield self._event(part, index)
            index += len(part.ids)

    def result(self) -> dict[str, Any]:
        """Return the choice's part of the job's result, with calls in the form of OpenAI's API."""
        reasoning = "".join(self._reasoning)
        result: dict[str, Any] = {"text": "".join(self._texts)}
        return (
            result
            | ({"reasoning": reasoning} if reasoning else {})
            | ({"tool_calls": [*self._calls.values()]} if self._calls else {})
        )

    def _event(self, part: _Part, index: int) -> AnswerEvent:
        """Return the event of a part, and add the part to the result."""
        piece, choice = part.piece, self._choice
        count, resume = len(part.ids), " ".join(map(str, part.ids))
        if isinstance(piece, TextPiece):
            self._texts.append(piece.text)
            return Token(piece.text, index, count, resume, part.logprobs or None, choice=choice)
        if isinstance(piece, ReasoningPiece):
            text = "" if self._hidden_reasoning else piece.text
            self._reasoning.append(text)
            return Reasoning(text, index, count, resume, choice=choice)
        self._add_call(piece.number, piece.name, piece.arguments)
        id_ = self._call_id(piece.number) if piece.name is not None else None
        return ToolCall(piece.number, piece.arguments, count, id_, piece.name, resume, choice=choice)

    def _call_id(self, index: int) -> str:
        """Return the id of a call. It is the same in each attempt at the job."""
        name = f"{self._job_id} {self._choice or 0} {index}"
        return f"call_{hashlib.sha256(name.encode()).hexdigest()[:24]}"

    def _add_call(self, index: int, name: str | None, arguments: str) -> None:
        if index not in self._calls:
            function = {"name": name or "", "arguments": ""}
            self._calls[index] = {"id": self._call_id(index), "type": "function", "function": function}
        self._calls[index]["function"]["arguments"] += arguments
