"""One choice of a chat: it turns the engine's deltas into events."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from worker.chat.detokenizer import Detokenizer
from worker.chat.engine import Delta
from worker.chat.parsing.pieces import AnswerParser, Piece, ReasoningPiece, TextPiece
from worker.chat.transcript.answer import Answer
from worker.jobs.chat.logprobs import TokenLogprob
from worker.jobs.events import AnswerEvent, LoggedEvent, Token

__all__ = ["Choice"]


class Choice:
    """One answer of a chat as it grows, over all attempts at the job. A chat of `n` has n choices.

    `answer` is empty, and `logged` are the events of the choice's answer that earlier attempts have logged.
    Without a `parser`, the answer is only text. `index` is the choice's place, from 0. It is None if the chat
    has only one choice. The events of several choices name their choice, and the last event of each one has
    its finish reason, so that no later attempt runs it again. With `show_ids` the events have the ids of all
    tokens, and the last one has the finish reason, too.
    """

    def __init__(
        self,
        answer: Answer,
        index: int | None = None,
        logged: Sequence[LoggedEvent] = (),
        parser: AnswerParser | None = None,
        show_ids: bool = False,
    ) -> None:
        self._answer = answer
        self._index = index
        self._parser = parser
        self._show_ids = show_ids
        #: The token ids that earlier attempts have generated.
        self.generated_ids = tuple(int(token) for event in logged for token in event.resume.split())
        #: Why the choice has ended; None while it goes on.
        self.finish_reason: str | None = logged[-1].data.get("finish_reason") if logged else None
        #: The number of tokens of reasoning.
        self.reasoning_tokens = 0
        self._reasons = False
        #: The number of tokens that have an event.
        self.logged_tokens = len(self.generated_ids)
        #: The tokens whose text the engine or the parser still holds back.
        self._held_back_ids: list[int] = []
        self._held_back_logprobs: list[TokenLogprob] = []
        for event in logged:
            answer.load(event)

    def replay(self, detokenizer: Detokenizer) -> None:
        """Bring the parser to where earlier attempts have left it. What it finds is in the log already."""
        if self._parser is not None:
            for token in self.generated_ids:
                self._parse(detokenizer.push(token), [token])

    @property
    def tokens(self) -> int:
        """The number of all tokens so far."""
        return self.logged_tokens + self._answer.new_tokens + len(self._held_back_ids)

    def add(self, delta: Delta) -> None:
        """Add the delta of a step. What the engine or the parser still holds back makes no event yet."""
        self._held_back_ids += delta.token_ids
        self._held_back_logprobs += delta.logprobs
        ended = delta.finish_reason in ("stop", "length")
        if pieces := self._parse(delta.text, delta.token_ids, ended):
            self._answer.add(pieces, self._held_back_ids, self._held_back_logprobs)
            self._held_back_ids, self._held_back_logprobs = [], []
        if ended:
            called = delta.finish_reason == "stop" and self._answer.has_calls
            self.finish_reason = "tool_calls" if called else delta.finish_reason
        if self._logs_end:
            self._answer.add([TextPiece("")], self._held_back_ids, ())
            self._held_back_ids = []

    def take_events(self) -> Sequence[AnswerEvent]:
        """Return the events of the deltas since the last call."""
        events = [*self._answer.take_events(self.logged_tokens)]
        self.logged_tokens += sum(len(event.resume.split()) for event in events)
        if self._show_ids:
            events = [replace(event, token_ids=[*map(int, event.resume.split())]) for event in events]
        if events and isinstance(events[-1], Token) and self._logs_end:
            events[-1] = replace(events[-1], finish_reason=self.finish_reason)
        return events

    def result(self) -> dict[str, Any]:
        """Return the choice's part of the job's result."""
        return {**self._answer.result(), "finish_reason": self.finish_reason}

    @property
    def _logs_end(self) -> bool:
        """True if the next event has the finish reason. It then has all tokens, also those without text."""
        return self.finish_reason is not None and (self._index is not None or self._show_ids)

    def _parse(self, text: str, ids: Sequence[int], ended: bool = False) -> Sequence[Piece]:
        """Return the pieces of a step, and count its tokens if they belong to the reasoning."""
        if self._parser is None:
            return [TextPiece(text)] if text else []
        pieces = [*self._parser.feed(text, ids), *(self._parser.finish() if ended else ())]
        if any(isinstance(piece, ReasoningPiece) for piece in pieces) or (self._reasons and not pieces):
            self.reasoning_tokens += len(ids)
        if pieces:
            self._reasons = isinstance(pieces[-1], ReasoningPiece)
        return pieces
