"""One request's answer as it grows: tokens in, deltas out."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from worker.chat.detokenizer import Detokenizer
from worker.chat.engine import ChatRequest, Delta, FinishReason
from worker.jobs.errors import JobFailed

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class RequestState:
    """What `request` has been answered so far, from where an earlier attempt left it.

    `read` is the number of tokens it has been extended by, those of `request.generated_ids` not among them.
    """

    def __init__(self, request: ChatRequest, tokenizer: "Tokenizer", eos_tokens: AbstractSet[int]) -> None:
        self.request = request
        self.read = 0
        self._eos_tokens = eos_tokens
        self._last = request.generated_ids[-1] if request.generated_ids else None
        self._detokenizer = Detokenizer(tokenizer, request.stop, request.min_tokens)
        for token in request.generated_ids:
            self._detokenizer.push(token)  # its text came then; what was held back then is held back again

    def extend(self, tokens: Sequence[int], complete: bool) -> Delta:
        """The delta of `tokens`, which follow those that it has read.

        It is the last one if the answer is `complete` with them, or if a stop string ends it here; the
        tokens behind that are not read.
        """
        text, taken, reason = "", 0, None
        for token in tokens:
            text += self._detokenizer.push(token)
            taken += 1
            self._last = token
            if self._detokenizer.stopped:
                break
        self.read += taken
        if complete or self._detokenizer.stopped:
            text += self._detokenizer.finish()
            reason = self._reason()
        return Delta(self.request.id, text, tuple(tokens[:taken]), reason)

    def fail(self, error: JobFailed) -> Delta:
        """The last delta, if something went wrong."""
        return Delta(self.request.id, "", (), "error", error)

    def _reason(self) -> FinishReason:
        ended = self._last in self._eos_tokens and not self.request.ignore_eos
        return "stop" if self._detokenizer.stopped or ended else "length"
