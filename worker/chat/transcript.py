"""The transcript of one chat: it turns the engine's deltas into events of the job."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from worker.chat.engine import Delta
from worker.jobs.errors import EngineFailed
from worker.jobs.events import Canceled, Event, Failed, Succeeded, Token
from worker.jobs.ledger.appends import Append, Reply
from worker.jobs.logprobs import TokenLogprob
from worker.runs.run import Run

__all__ = ["Transcript"]


class Transcript:
    """The answer of one chat as it grows, over all attempts at the job.

    A transcript is an `EventProducer`. The engine's thread adds deltas, and the outbox's thread drains them:
    the deltas that have come since the last flush become one token event.

    `text` and `tokens` are the text that earlier attempts have logged and the number of its tokens.
    """

    def __init__(self, run: Run, prompt_tokens: int, text: str, tokens: int) -> None:
        self.run = run
        self._prompt_tokens = prompt_tokens
        self._texts = [text]
        self._logged_tokens = tokens
        #: Ids of the tokens whose text the engine still holds back.
        self._held_back_ids: list[int] = []
        self._held_back_logprobs: list[TokenLogprob] = []
        self._streaming = False
        self._deltas: deque[Delta] = deque()

    def add(self, delta: Delta) -> bool:
        """Add the delta of a step. Return whether it is urgent: it brings the first text or the end."""
        self._deltas.append(delta)
        if self._streaming and not delta.finish_reason:
            return False
        self._streaming = bool(delta.text)
        return self._streaming or bool(delta.finish_reason)

    @property
    def newly_pending(self) -> bool:
        """True if at most one delta is pending, so that the outbox may not know of this transcript yet."""
        return len(self._deltas) <= 1

    def drain(self) -> Sequence[Append]:
        """Return the append of all pending deltas, if there are any (`EventProducer`).

        Text that the engine still holds back makes no event yet. Its tokens count as progress.
        """
        text, events, ids, delta = "", list[Event](), list[int](), None
        logprobs: list[TokenLogprob] = []
        # To the last delta: the outbox is not notified of a delta that joins others here (`newly_pending`).
        while self._deltas:
            delta = self._deltas.popleft()
            self._held_back_ids += delta.token_ids
            self._held_back_logprobs += delta.logprobs
            if delta.text:
                text += delta.text
                ids += self._held_back_ids
                logprobs += self._held_back_logprobs
                self._held_back_ids, self._held_back_logprobs = [], []
        if delta is None:
            return []
        if text:
            self._texts.append(text)
            resume = " ".join(map(str, ids))
            events.append(Token(text, self._logged_tokens, len(ids), resume, logprobs or None))
            self._logged_tokens += len(ids)
        fields: dict[str, Any] = {"done": self._tokens}
        if delta.finish_reason:
            terminal, outcome = self._terminal_event(delta)
            events.append(terminal)
            fields |= outcome
        append = self.run.next_append(*events, **fields)
        return [] if append is None else [append]

    def on_reply(self, append: Append, reply: Reply) -> None:
        """Pass the ledger's reply on to the run (`EventProducer`)."""
        self.run.act_on(append, reply)

    @property
    def _tokens(self) -> int:
        return self._logged_tokens + len(self._held_back_ids)

    def _terminal_event(self, delta: Delta) -> tuple[Event, dict[str, Any]]:
        """Return the event that ends the job, and the fields of the record that change with it."""
        prompt, completion = self._prompt_tokens, self._tokens
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if delta.finish_reason == "canceled":
            return Canceled(), {"usage": usage}
        if delta.finish_reason == "error":
            error = delta.error or EngineFailed("the engine failed")
            failed = Failed(error.code, str(error))
            return failed, {"usage": usage, "error": {"code": failed.code, "message": failed.message}}
        result = {"text": "".join(self._texts), "finish_reason": delta.finish_reason}
        return Succeeded(result, usage), {"usage": usage, "result": result}
