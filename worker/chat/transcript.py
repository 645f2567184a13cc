"""The transcript of one chat: the answer as it grows, and the events that it becomes."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from worker.chat.engine import Delta
from worker.jobs.errors import EngineFailed
from worker.jobs.events import Canceled, Event, Failed, Succeeded, Token
from worker.runs.outbox import Letter
from worker.runs.run import Run

__all__ = ["Transcript"]


class Transcript:
    """One chat's answer as it grows, over all attempts at the job."""

    def __init__(self, run: Run, prompt_tokens: int, text: str, tokens: int) -> None:
        self.run = run
        self._prompt_tokens = prompt_tokens
        self._texts = [text]
        self._logged = tokens
        self._unlogged: list[int] = []
        self._flows = False
        self._deltas: deque[Delta] = deque()  # the engine's thread puts them in, the outbox' takes them out

    def add(self, delta: Delta) -> bool:
        """Take a step's delta; whether somebody waits for it: the first text, the end."""
        self._deltas.append(delta)
        if self._flows and not delta.finish_reason:
            return False
        self._flows = bool(delta.text)
        return self._flows or bool(delta.finish_reason)

    @property
    def begins(self) -> bool:
        """Whether no delta waits beside the last one: with others, the outbox knows to ask for them."""
        return len(self._deltas) <= 1

    def collect(self) -> Sequence[Letter]:
        """What the deltas so far mean for the job's log (Source): no event yet for text that is held back."""
        text, events, ids, delta = "", list[Event](), list[int](), None
        while self._deltas:  # to the last, as one that finds others here is not told of
            delta = self._deltas.popleft()
            self._unlogged += delta.token_ids
            if delta.text:
                text += delta.text
                ids += self._unlogged
                self._unlogged = []
        if delta is None:
            return []
        if text:
            self._texts.append(text)
            events.append(Token(text, self._logged, tuple(ids)))
            self._logged += len(ids)
        fields: dict[str, Any] = {"done": self._tokens}
        if delta.finish_reason:
            ending, outcome = self._ending(delta)
            events.append(ending)
            fields |= outcome
        letter = self.run.letter(*events, **fields)
        return [letter] if letter else []

    @property
    def _tokens(self) -> int:
        return self._logged + len(self._unlogged)

    def _ending(self, delta: Delta) -> tuple[Event, dict[str, Any]]:
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
