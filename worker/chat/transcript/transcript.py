"""The transcript of one chat: it turns the engine's deltas into events of the job."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker.chat.engine import Delta
from worker.chat.transcript.chat_metrics import ChatMetrics
from worker.chat.transcript.choice import Choice
from worker.jobs.errors import EngineFailed
from worker.jobs.events import AnswerEvent, Canceled, Event, Failed, Succeeded
from worker.jobs.ledger.appends import NO_INCREMENTS, Append, Reply
from worker.runs.run import Run

__all__ = ["Transcript"]


class Transcript:
    """The choices of one chat as they grow, over all attempts at the job, by the ids of their requests.

    A transcript is an `EventProducer`. The engine's thread adds deltas, and the outbox's thread drains them:
    the deltas of a choice that have come since the last flush become one token event.

    The job ends when all choices have ended, or with the first one that fails or is canceled. With
    `show_prompt` the first token event has the token ids of the prompt.
    """

    def __init__(
        self,
        run: Run,
        prompt: Sequence[int],
        choices: Mapping[str, Choice],
        metrics: ChatMetrics,
        show_prompt: bool = False,
    ) -> None:
        self.run = run
        self.choices = choices
        self._metrics = metrics
        self._prompt = prompt
        self._show_prompt = show_prompt
        #: The ids of the requests that have text in each step.
        self._streaming: set[str] = set()
        #: The deltas that are not logged yet, and when they have come, on the monotonic clock.
        self._deltas: deque[tuple[Delta, float]] = deque()
        #: How many tokens of the prompt were in the engine's cache; None before the attempt's first delta.
        self._cached_tokens: int | None = None
        #: The first delta that ends the job early.
        self._early_end: Delta | None = None

    def add(self, delta: Delta, now: float) -> bool:
        """Add the delta of a step. Return whether it is urgent: it brings the first text or an end."""
        self._deltas.append((delta, now))
        if delta.id in self._streaming and not delta.finish_reason:
            return False
        if delta.text:
            self._streaming.add(delta.id)
        return bool(delta.text or delta.finish_reason)

    @property
    def newly_pending(self) -> bool:
        """True if at most one delta is pending, so that the outbox may not know of this transcript yet."""
        return len(self._deltas) <= 1

    @property
    def unfinished(self) -> Sequence[str]:
        """The ids of the requests whose choices have not ended."""
        return [request_id for request_id, choice in self.choices.items() if not choice.finish_reason]

    def drain(self) -> Sequence[Append]:
        """Return the append of all pending deltas, if there are any (`EventProducer`)."""
        if self.run.holds_back(self):
            return []
        changed: dict[Choice, None] = {}  # an ordered set
        deltas = []
        # To the last delta: the outbox is not notified of a delta that joins others here (`newly_pending`).
        while self._deltas:
            deltas.append(self._deltas.popleft())
        self._metrics.add(deltas)
        for delta, _ in deltas:
            choice = self.choices[delta.id]
            choice.add(delta)
            changed[choice] = None
            if self._cached_tokens is None:
                self._cached_tokens = delta.cached_tokens
            if delta.finish_reason in ("canceled", "error"):
                self._early_end = self._early_end or delta
        if not changed:
            return []
        events: list[Event] = [event for choice in changed for event in choice.take_events()]
        if self._show_prompt:
            self._add_prompt(events)
        fields: dict[str, Any] = {"done": self._tokens}
        ended = bool(self._early_end) or not self.unfinished
        if ended:
            terminal, outcome = self._terminal_event()
            events.append(terminal)
            fields |= outcome
        increments = NO_INCREMENTS
        if events and (ended or self._metrics.due):
            fields["counted"] = tokens = self._tokens if ended else self._logged_tokens
            increments = self._metrics.take(tokens)
        append = self.run.next_append(*events, increments=increments, **fields)
        return [] if append is None else [append]

    def on_reply(self, append: Append, reply: Reply) -> None:
        """Pass the ledger's reply on to the run (`EventProducer`)."""
        self.run.act_on(append, reply)

    @property
    def _tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices.values())

    @property
    def _logged_tokens(self) -> int:
        return sum(choice.logged_tokens for choice in self.choices.values())

    def _add_prompt(self, events: list[Event]) -> None:
        """Add the ids of the prompt to the first event of the answer, if there is one."""
        for at, event in enumerate(events):
            if isinstance(event, AnswerEvent):
                events[at] = replace(event, prompt_token_ids=list(self._prompt))
                self._show_prompt = False
                return

    def _terminal_event(self) -> tuple[Event, dict[str, Any]]:
        """Return the event that ends the job, and the fields of the record that change with it."""
        prompt, completion, end = len(self._prompt), self._tokens, self._early_end
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self._cached_tokens or 0},
        }
        if reasoning := sum(choice.reasoning_tokens for choice in self.choices.values()):
            usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        if end and end.finish_reason == "canceled":
            return Canceled(), {"usage": usage}
        if end:
            error = end.error or EngineFailed("the engine failed")
            failed = Failed(error.code, str(error))
            return failed, {"usage": usage, "error": {"code": failed.code, "message": failed.message}}
        result = self._result()
        self._metrics.add_end(completion, len(self.choices), result["finish_reason"])
        return Succeeded(result, usage), {"usage": usage, "result": result}

    def _result(self) -> dict[str, Any]:
        """Return the result: that of the first choice, and all choices if there are several."""
        choices = [{"index": index, **choice.result()} for index, choice in enumerate(self.choices.values())]
        first = {name: value for name, value in choices[0].items() if name != "index"}
        return first | ({"choices": choices} if len(choices) > 1 else {})
