"""From token ids to text, as they come: whole characters only, and nothing of a stop string."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class StopStrings:
    """Lets text through up to the one of `stop` that is complete first, in whatever pieces the text comes.

    `found` is True once one was; no text comes after that.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.found = False
        self._stop = [text for text in stop if text]
        self._held = ""

    def push(self, text: str) -> str:
        """What is certain after `text`: an end that may be the start of a stop string is held back."""
        if self.found or not text:
            return ""
        if not self._stop:
            return text
        self._held += text
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        self.found = bool(found)
        return self._release(min(found)[1] if found else len(self._held) - self._undecided())

    def finish(self) -> str:
        """What was held back for a stop string that will not come any more."""
        return "" if self.found else self._release(len(self._held))

    def _undecided(self) -> int:
        """Length of the longest end of the held text that may be the start of a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if stop.startswith(self._held[-length:]):
                    longest = length
                    break
        return longest

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text


class Detokenizer:
    """The text of one answer, in pieces.

    Special tokens give no text. Bytes that never become a character (an answer cut off inside an emoji)
    are dropped. In the text of the first `unstopped` tokens no stop string is looked for.
    """

    def __init__(self, tokenizer: "Tokenizer", stop: Sequence[str] = (), unstopped: int = 0) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._unstopped = unstopped
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stop_strings = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._stop_strings.found

    def push(self, token: int) -> str:
        """The text that is certain after one more token; often "", sometimes several tokens' worth."""
        text = self._stream.step(self._tokenizer, token) or ""
        self._unstopped -= 1
        return text if self._unstopped >= 0 else self._stop_strings.push(text)

    def finish(self) -> str:
        """What was held back for a stop string that will not come any more."""
        return self._stop_strings.finish()
