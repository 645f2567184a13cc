"""One request's answer as it grows: tokens in, deltas out."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from worker.chat.detokenizer import Detokenizer
from worker.chat.engine import ChatRequest, Delta, FinishReason
from worker.jobs.errors import JobFailed

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Answer:
    """What `request` has been answered so far, from where an earlier attempt left it."""

    def __init__(self, request: ChatRequest, tokenizer: "Tokenizer", eos_tokens: AbstractSet[int]) -> None:
        self.request = request
        self._eos_tokens = eos_tokens
        self._detokenizer = Detokenizer(tokenizer, request.stop, request.min_tokens)
        self._read = 0
        for token in request.said:
            self._detokenizer.push(token)  # its text came then; what was held back then is held back again

    def extend(self, generated: Sequence[int], complete: bool) -> Delta:
        """The delta up to the end of `generated`, the tokens after `request.said`.

        It is the last one if they are `complete`, or if a stop string ends the answer here; the tokens
        behind it are not read.
        """
        text, before = "", self._read
        for token in generated[before:]:
            text += self._detokenizer.push(token)
            self._read += 1
            if self._detokenizer.stopped:
                break
        reason: FinishReason | None = None
        if self._detokenizer.stopped:
            reason = "stop"
        elif complete:
            text += self._detokenizer.finish()
            whole = (*self.request.said, *generated)
            ended = not self.request.ignore_eos and whole and whole[-1] in self._eos_tokens
            reason = "stop" if ended else "length"
        return Delta(self.request.id, text, tuple(generated[before : self._read]), reason)

    def fail(self, error: JobFailed) -> Delta:
        """The last delta, if something went wrong."""
        return Delta(self.request.id, "", (), "error", error)
