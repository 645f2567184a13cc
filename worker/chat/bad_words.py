"""The token ids of texts that an answer may not contain."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from worker.jobs.chat.sampling import SamplingParams

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["MAX_BAD_TOKENS", "bad_word_ids"]

#: The most tokens of all bad words of a request, in all their spellings. With more, the process of vLLM's
#: engine ends (0.24: vllm/v1/worker/gpu/sample/bad_words.py).
MAX_BAD_TOKENS = 1024


def bad_word_ids(given: SamplingParams, tokenizer: "Tokenizer") -> list[list[int]]:
    """Return the token ids of all spellings of the bad words."""
    return [ids for word in given.bad_words for ids in _spellings(word, tokenizer)]


def _spellings(word: str, tokenizer: "Tokenizer") -> Iterator[list[int]]:
    """Yield the token ids of a bad word, at the start of a text and behind a space.

    As in vLLM (`SamplingParams.update_from_tokenizer`), the second form counts only if the space becomes a
    part of the first token.
    """
    plain, spaced = (tokenizer.encode(text, add_special_tokens=False).ids for text in _forms(word))
    if plain:
        yield plain
    if spaced and plain and spaced[0] != plain[0] and len(spaced) == len(plain):
        yield spaced


def _forms(word: str) -> tuple[str, str]:
    return word.lstrip(), f" {word.lstrip()}"
