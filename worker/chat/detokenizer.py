"""From token ids to text, as they come: whole characters only, and nothing of a stop string."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Detokenizer:
    """The text of one answer, in pieces.

    Special tokens give no text. Bytes that never become a character (an answer cut off inside an emoji)
    are dropped. `stopped` is True once one of the `stop` strings was found; no text comes after that.
    """

    def __init__(self, tokenizer: "Tokenizer", stop: Sequence[str] = ()) -> None:
        from tokenizers.decoders import DecodeStream

        self.stopped = False
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stop = [text for text in stop if text]
        self._held = ""

    def push(self, token: int) -> str:
        """The text that is certain after one more token; often "", sometimes several tokens' worth."""
        self._held += self._stream.step(self._tokenizer, token) or ""
        found = [at for text in self._stop if (at := self._held.find(text)) >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - self._undecided())

    def finish(self) -> str:
        """What was held back for a stop string that will not come any more."""
        return "" if self.stopped else self._release(len(self._held))

    def _undecided(self) -> int:
        """Length of the longest end of the held text that may be the start of a stop string."""
        starts = (text[:n] for text in self._stop for n in range(1, len(text)))
        return max((len(start) for start in starts if self._held.endswith(start)), default=0)

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text
