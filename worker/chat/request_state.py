"""The state of one running request: it takes the engine's tokens and makes deltas of them."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from worker.chat.detokenizer import Detokenizer
from worker.chat.engine import Candidates, ChatRequest, Delta, FinishReason
from worker.chat.logprobs import describe
from worker.jobs.errors import JobFailed

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class RequestState:
    """The answer to `request` so far. It starts from the tokens that an earlier attempt generated.

    `tokens_read` counts the tokens of this attempt that were added, without `request.generated_ids`. The
    engine sets `cached_tokens` to the number of tokens that it has found in its cache, before the first ones
    are added.
    """

    def __init__(self, request: ChatRequest, tokenizer: "Tokenizer", eos_tokens: AbstractSet[int]) -> None:
        self.request = request
        self.tokens_read = 0
        self.cached_tokens = 0
        self._tokenizer = tokenizer
        self._eos_tokens = eos_tokens
        self._last = request.generated_ids[-1] if request.generated_ids else None
        markers = request.marker_tokens - eos_tokens
        self._detokenizer = Detokenizer(tokenizer, request.sampling, markers)
        for token in request.generated_ids:
            # The earlier attempt emitted the text that this returns, and held back what is held back here.
            self._detokenizer.push(token)

    def add_tokens(
        self, tokens: Sequence[int], complete: bool, candidates: Sequence[Candidates] = ()
    ) -> Delta:
        """Append the engine's new tokens and return the delta that they make.

        The delta has a finish reason if the engine says that the answer is `complete`, or if a stop string
        or a stop token ends it. Later tokens are not read. `candidates` are those of each token if the
        request asks for log-probabilities.
        """
        text, taken, reason = "", 0, None
        for token in tokens:
            text += self._detokenizer.push(token)
            taken += 1
            self._last = token
            if self._detokenizer.stopped:
                break
        cached = 0 if self.tokens_read else min(self.cached_tokens, len(self.request.prompt))
        self.tokens_read += taken
        if complete or self._detokenizer.stopped:
            text += self._detokenizer.finish()
            reason = self._finish_reason()
        top = self.request.sampling.top_logprobs
        logprobs = [describe(each, top, self._tokenizer) for each in candidates[:taken]] if candidates else ()
        ids = tuple(tokens[:taken])
        return Delta(self.request.id, text, ids, reason, logprobs=logprobs, cached_tokens=cached)

    def error_delta(self, error: JobFailed) -> Delta:
        """Return the last delta of a request that failed with `error`."""
        return Delta(self.request.id, "", (), "error", error)

    def _finish_reason(self) -> FinishReason:
        ended = self._last in self._eos_tokens and not self.request.sampling.ignore_eos
        return "stop" if self._detokenizer.stopped or ended else "length"
