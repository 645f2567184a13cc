"""One choice of a chat: it turns the engine's deltas into token events."""

from collections.abc import Sequence

from worker.chat.engine import Delta
from worker.jobs.events import Event, LoggedEvent, Token
from worker.jobs.logprobs import TokenLogprob

__all__ = ["Choice"]


class Choice:
    """One answer of a chat as it grows, over all attempts at the job. A chat of `n` has n choices.

    `logged` are the token events of the choice that earlier attempts have logged. `index` is the choice's
    place, from 0. It is None if the chat has only one choice. The events of several choices name their
    choice, and the last event of each one has its finish reason, so that no later attempt runs it again.
    With `show_ids` the events have the ids of all tokens, and the last one has the finish reason, too.
    """

    def __init__(
        self, index: int | None = None, logged: Sequence[LoggedEvent] = (), show_ids: bool = False
    ) -> None:
        self._index = index
        self._show_ids = show_ids
        #: The token ids that earlier attempts have generated.
        self.generated_ids = tuple(int(token) for event in logged for token in event.resume.split())
        #: Why the choice has ended; None while it goes on.
        self.finish_reason: str | None = logged[-1].data.get("finish_reason") if logged else None
        self._texts = [event.data["text"] for event in logged]
        self._logged_tokens = len(self.generated_ids)
        self._new_texts: list[str] = []
        self._new_ids: list[int] = []
        self._new_logprobs: list[TokenLogprob] = []
        #: The tokens whose text the engine still holds back.
        self._held_back_ids: list[int] = []
        self._held_back_logprobs: list[TokenLogprob] = []

    @property
    def text(self) -> str:
        """The text that has events."""
        return "".join(self._texts)

    @property
    def tokens(self) -> int:
        """The number of all tokens so far."""
        return self._logged_tokens + len(self._new_ids) + len(self._held_back_ids)

    def add(self, delta: Delta) -> None:
        """Add the delta of a step. Text that the engine still holds back makes no event yet."""
        self._held_back_ids += delta.token_ids
        self._held_back_logprobs += delta.logprobs
        if delta.finish_reason in ("stop", "length"):
            self.finish_reason = delta.finish_reason
        if delta.text:
            self._new_texts.append(delta.text)
            self._new_logprobs += self._held_back_logprobs
            self._held_back_logprobs = []
        if delta.text or self._logs_end:
            self._new_ids += self._held_back_ids
            self._held_back_ids = []

    def take_events(self) -> Sequence[Event]:
        """Return the events of the deltas since the last call. There is at most one token event."""
        if not self._new_texts and not self._logs_end:
            return []
        text, ids = "".join(self._new_texts), self._new_ids
        event = Token(
            text,
            self._logged_tokens,
            len(ids),
            " ".join(map(str, ids)),
            self._new_logprobs or None,
            choice=self._index,
            finish_reason=self.finish_reason if self._logs_end else None,
            token_ids=ids if self._show_ids else None,
        )
        self._texts.append(text)
        self._logged_tokens += len(ids)
        self._new_texts, self._new_ids, self._new_logprobs = [], [], []
        return [event]

    @property
    def _logs_end(self) -> bool:
        """True if the next event has the finish reason. It then has all tokens, also those without text."""
        return self.finish_reason is not None and (self._index is not None or self._show_ids)
