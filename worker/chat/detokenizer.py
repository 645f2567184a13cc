"""Turns token ids into text as they arrive: whole characters only, and up to a stop string or stop token."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from worker.jobs.chat.sampling import SamplingParams

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def special_tokens(tokenizer: "Tokenizer") -> Mapping[int, str]:
    """Return the texts of the tokenizer's special tokens by their ids."""
    added = tokenizer.get_added_tokens_decoder().items()
    return {id_: token.content for id_, token in added if token.special}


class StopStrings:
    """A filter that passes text up to the first stop string, or also this string itself if `include` is set.

    Of several stop strings, the one that is complete first counts. The result does not depend on how the
    text is cut into pieces. `found` becomes True with the first stop string; after it no text passes.
    """

    def __init__(self, stop: Sequence[str], include: bool = False) -> None:
        self.found = False
        self._include = include
        self._stop = [text for text in stop if text]
        self._held = ""

    def push(self, text: str) -> str:
        """Add text and return the text that is final now.

        An end that may be the start of a stop string is held back.
        """
        if self.found or not text:
            return ""
        if not self._stop:
            return text
        self._held += text
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        self.found = bool(found)
        if not found:
            return self._release(len(self._held) - self._partial_match_length())
        end, start = min(found)
        return self._release(end if self._include else start)

    def finish(self) -> str:
        """Return the text that was held back, because no further text can complete a stop string."""
        return "" if self.found else self._release(len(self._held))

    def _partial_match_length(self) -> int:
        """Return the length of the longest end of the held text that may be the start of a stop string."""
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
    """The text of one answer, produced token by token.

    Special tokens give no text, except those in `marker_tokens`. Bytes that never become a character (the
    answer ends inside an emoji) are dropped. The first `min_tokens` tokens are no stop tokens, and stop
    strings are looked for only behind their text. A stop token gives no text, unless
    `include_stop_str_in_output` is set.
    """

    def __init__(
        self, tokenizer: "Tokenizer", sampling: SamplingParams, marker_tokens: AbstractSet[int] = frozenset()
    ) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._tokens_before_stop = sampling.min_tokens
        self._stream = DecodeStream(skip_special_tokens=not marker_tokens)
        self._silent_tokens: AbstractSet[int] = frozenset()
        if marker_tokens:
            self._silent_tokens = special_tokens(tokenizer).keys() - marker_tokens
        self._include_stop = sampling.include_stop_str_in_output
        self._stop_strings = StopStrings(sampling.stop, self._include_stop)
        self._stop_tokens = frozenset(sampling.stop_token_ids)
        self._stop_token_found = False

    @property
    def stopped(self) -> bool:
        """True after a stop string or a stop token has ended the answer."""
        return self._stop_token_found or self._stop_strings.found

    def push(self, token: int) -> str:
        """Add a token and return the text that is final now: often "", sometimes that of several tokens."""
        self._tokens_before_stop -= 1
        early = self._tokens_before_stop >= 0
        self._stop_token_found = token in self._stop_tokens and not early
        if self._stop_token_found and not self._include_stop:
            return ""
        if token in self._silent_tokens:
            return ""
        text = self._stream.step(self._tokenizer, token) or ""
        return text if early else self._stop_strings.push(text)

    def finish(self) -> str:
        """Return the text that was held back as a possible start of a stop string."""
        return self._stop_strings.finish()
