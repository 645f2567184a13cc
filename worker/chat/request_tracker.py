"""The answers that an engine works on, and the last deltas that no step of it brings."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from worker.chat.engine import ChatRequest, Delta
from worker.chat.request_state import RequestState
from worker.jobs.errors import EngineDied, EngineFailed, JobFailed

if TYPE_CHECKING:
    from worker.chat.checkpoint import ModelFiles


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A request that was let in: `key` names it inside the engine, at most `room` tokens are to come."""

    key: str
    request: ChatRequest
    room: int


class RequestTracker:
    """What callers and the engine's thread share. Each request gets exactly one last delta from here.

    Requests go by keys of our own: an id may come again while what had it last still lingers in the engine.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys = count()
        self._files: ModelFiles | None = None  # None while the engine is not serving
        self._context_length = 0
        self._running: dict[str, RequestState] = {}
        self._decided: list[Delta] = []

    def open(self, files: "ModelFiles", context_length: int) -> None:
        """Let requests in, up to `context_length` tokens of prompt and answer together."""
        self._files, self._context_length = files, context_length

    @property
    def serving(self) -> bool:
        """Whether requests are let in."""
        return self._files is not None

    def admit(self, request: ChatRequest) -> AdmittedRequest | None:
        """Let a request in; None if no step is needed to know its end. EngineDied if not serving."""
        files = self._files
        if files is None:
            raise EngineDied("the chat engine is not running")
        answer = RequestState(request, files.prompt_template.tokenizer, files.eos_tokens)
        room = min(request.max_tokens, self._context_length - len(request.prompt)) - len(
            request.generated_ids
        )
        only = self._only_delta(answer, room)
        with self._lock:
            if self._files is None:
                raise EngineDied("the chat engine is not running")
            if only is not None:
                self._decided.append(only)
                return None
            ticket = AdmittedRequest(str(next(self._keys)), request, room)
            self._running[ticket.key] = answer
            return ticket

    def __contains__(self, key: str) -> bool:
        return key in self._running

    def cancel(self, request_id: str) -> str | None:
        """End a request as "canceled" and give its key; None if it is unknown or has ended."""
        with self._lock:
            key = next((k for k, answer in self._running.items() if answer.request.id == request_id), None)
            if key is not None:
                del self._running[key]
                self._decided.append(Delta(request_id, "", (), "canceled"))
            return key

    def get(self, key: str) -> RequestState | None:
        """The answer; None if it has ended, by a stop string or a cancel."""
        return self._running.get(key)

    def extend(self, key: str, answer: RequestState, tokens: Sequence[int], complete: bool) -> Delta | None:
        """Let a step's tokens into an answer (`RequestState.extend`); None if that has ended."""
        try:
            delta = answer.extend(tokens, complete)
        except Exception as error:  # tokenizers' DecodeStream may raise; the others must not pay for it
            delta = answer.fail(EngineFailed(f"the answer cannot be decoded: {error}"))
        if delta.finish_reason:
            with self._lock:
                if self._running.pop(key, None) is None:  # cancelled just now: one end is enough
                    return None
        return delta

    def fail(self, key: str, error: JobFailed) -> Delta | None:
        """End a request; None if it has ended."""
        with self._lock:
            answer = self._running.pop(key, None)
        return answer.fail(error) if answer else None

    def take_decided(self) -> Sequence[Delta]:
        """The last deltas that no step brings, each once."""
        with self._lock:
            decided, self._decided = self._decided, []
        return decided

    def close(self, error: JobFailed) -> Sequence[Delta]:
        """Let nothing more in and end everything; none when that has been done."""
        with self._lock:
            self._files = None
            deltas = [*self._decided, *(answer.fail(error) for answer in self._running.values())]
            self._running, self._decided = {}, []
        return deltas

    def _only_delta(self, answer: RequestState, room: int) -> Delta | None:
        """The delta of a request that takes no step: its prompt is none, or there is no room for a token."""
        size = len(answer.request.prompt)
        if not 1 <= size <= self._context_length:
            reason = f"a prompt must have 1 to {self._context_length} tokens, not {size}"
            return answer.fail(EngineFailed(reason))
        return answer.extend((), complete=True) if room <= 0 else None
