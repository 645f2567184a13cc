"""The requests that an engine is working on, shared by its callers and its thread."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from worker.chat.bad_words import MAX_BAD_TOKENS, bad_word_ids
from worker.chat.engine import Candidates, ChatRequest, Delta
from worker.chat.request_state import RequestState
from worker.jobs.errors import EngineDied, EngineFailed, JobFailed

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from worker.chat.checkpoint import ModelFiles


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A request for the engine to run.

    `key` identifies it inside the engine: a number, a colon and the request's cache salt. The engine may
    generate at most `max_new_tokens` more tokens.
    """

    key: str
    request: ChatRequest
    max_new_tokens: int


class RequestTracker:
    """The running requests of one engine. It gives each request exactly one last delta.

    The tracker gives each request a key of its own, because a caller may use an id again while the engine
    still works on the previous request with that id.

    A pending finish is a last delta that no engine step produces, such as that of a canceled request. The
    engine reports pending finishes together with its next step.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys = count()
        self._files: ModelFiles | None = None  # None while the engine is not serving
        self._context_length = 0
        self._running: dict[str, RequestState] = {}
        self._pending_finishes: list[Delta] = []

    def open(self, files: "ModelFiles", context_length: int) -> None:
        """Admit requests from now on, up to `context_length` tokens of prompt and answer together."""
        self._files, self._context_length = files, context_length

    @property
    def serving(self) -> bool:
        """True between `open` and `close`."""
        return self._files is not None

    def admit(self, request: ChatRequest) -> AdmittedRequest | None:
        """Admit a request, or return None if it needs no engine step.

        In the second case its only delta becomes a pending finish. Raises `EngineDied` if the engine is not
        serving.
        """
        files = self._files
        if files is None:
            raise EngineDied("the chat engine is not running")
        tokenizer = files.prompt_template.tokenizer
        state = RequestState(request, tokenizer, files.eos_tokens)
        longest = min(request.sampling.max_tokens, self._context_length - len(request.prompt))
        max_new_tokens = longest - len(request.generated_ids)
        only_delta = self._only_delta(state, tokenizer, max_new_tokens)
        with self._lock:
            if self._files is None:
                raise EngineDied("the chat engine is not running")
            if only_delta is not None:
                self._pending_finishes.append(only_delta)
                return None
            admitted = AdmittedRequest(f"{next(self._keys)}:{request.cache_salt}", request, max_new_tokens)
            self._running[admitted.key] = state
            return admitted

    def __contains__(self, key: str) -> bool:
        return key in self._running

    def cancel_request(self, request_id: str) -> str | None:
        """End a request with "canceled" and return its key; None if the id is unknown or has ended."""
        with self._lock:
            key = next((k for k, state in self._running.items() if state.request.id == request_id), None)
            if key is not None:
                del self._running[key]
                self._pending_finishes.append(Delta(request_id, "", (), "canceled"))
            return key

    def get_state(self, key: str) -> RequestState | None:
        """Return the state of a request; None if the request has ended, by a stop string or a cancel."""
        return self._running.get(key)

    def add_tokens(
        self,
        key: str,
        state: RequestState,
        tokens: Sequence[int],
        complete: bool,
        candidates: Sequence[Candidates] = (),
    ) -> Delta | None:
        """Add a step's tokens to a request (`RequestState.add_tokens`); None if it ended meanwhile.

        If the tokens cannot be decoded, the request ends with `EngineFailed`.
        """
        try:
            delta = state.add_tokens(tokens, complete, candidates)
        except Exception as error:  # tokenizers' DecodeStream may raise; other requests must not fail with it
            delta = state.error_delta(EngineFailed(f"the answer cannot be decoded: {error}"))
        if delta.finish_reason:
            with self._lock:
                if self._running.pop(key, None) is None:  # canceled meanwhile: it has its last delta already
                    return None
        return delta

    def fail_request(self, key: str, error: JobFailed) -> Delta | None:
        """End a request with an error and return its last delta; None if it has ended already."""
        with self._lock:
            state = self._running.pop(key, None)
        return state.error_delta(error) if state else None

    def refuse(self, key: str, error: JobFailed) -> None:
        """Make the last delta of a request that cannot run a pending finish."""
        with self._lock:
            if state := self._running.pop(key, None):  # otherwise it was canceled meanwhile
                self._pending_finishes.append(state.error_delta(error))

    def take_pending_finishes(self) -> Sequence[Delta]:
        """Remove and return the pending finishes."""
        with self._lock:
            finishes, self._pending_finishes = self._pending_finishes, []
        return finishes

    def close(self, error: JobFailed) -> Sequence[Delta]:
        """Admit nothing more and end every request with `error`.

        Returns the last deltas, pending finishes included. A second call returns none.
        """
        with self._lock:
            self._files = None
            ended = [state.error_delta(error) for state in self._running.values()]
            deltas = [*self._pending_finishes, *ended]
            self._running, self._pending_finishes = {}, []
        return deltas

    def _only_delta(self, state: RequestState, tokenizer: "Tokenizer", max_new_tokens: int) -> Delta | None:
        """Return the only delta of a request that needs no engine step; None for all other requests.

        It is an error if the prompt is empty or longer than the context, if a biased token is not in the
        vocabulary, or if the bad words have too many tokens. It is "length" if no token fits.
        """
        given, vocabulary = state.request.sampling, tokenizer.get_vocab_size()
        bad_tokens = sum(map(len, bad_word_ids(given, tokenizer)))
        if bad_tokens > MAX_BAD_TOKENS:
            reason = f"bad_words: they have {bad_tokens} tokens together, and the most is {MAX_BAD_TOKENS}"
            return state.error_delta(EngineFailed(reason))
        if unknown := [id_ for id_ in given.logit_bias if int(id_) >= vocabulary]:
            reason = f"logit_bias: the model has no token {unknown[0]}, only 0 to {vocabulary - 1}"
            return state.error_delta(EngineFailed(reason))
        size = len(state.request.prompt)
        if not 1 <= size <= self._context_length:
            reason = f"a prompt must have 1 to {self._context_length} tokens, not {size}"
            return state.error_delta(EngineFailed(reason))
        return state.add_tokens((), complete=True) if max_new_tokens <= 0 else None
