"""Describes the log-probabilities of an engine's tokens for clients."""

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from worker.chat.engine import Candidates
from worker.jobs.chat.logprobs import TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["describe"]

#: JSON has no infinity. vLLM's server gives this number for tokens that cannot be drawn.
LEAST = -9999.0
#: What a tokenizer decodes to if bytes are no character.
REPLACEMENT = "\ufffd"
#: The name of a token of one byte, in vocabularies of characters (`ByteFallback`).
BYTE = re.compile("<0x([0-9A-F]{2})>")


def describe(candidates: Candidates, top: int, tokenizer: "Tokenizer") -> TokenLogprob:
    """Return the description of the chosen token and of the `top` likeliest ones."""
    chosen, *likeliest = (
        _described(token, logprob, tokenizer) for token, logprob in zip(*candidates, strict=True)
    )
    return {**chosen, "top_logprobs": likeliest[:top]}


def _described(token: int, logprob: float, tokenizer: "Tokenizer") -> TopLogprob:
    text = _text(token, tokenizer)
    content = _bytes(token, tokenizer) if REPLACEMENT in text else None
    return {"token": text, "logprob": max(logprob, LEAST), "bytes": list(content or text.encode())}


def _text(token: int, tokenizer: "Tokenizer") -> str:
    """Return the text of a token behind other text. Some tokenizers drop a space at the start of a text."""
    once, twice = (tokenizer.decode([token] * times, skip_special_tokens=False) for times in (1, 2))
    return twice[len(once) :]


def _bytes(token: int, tokenizer: "Tokenizer") -> bytes | None:
    """Return the bytes of a token that is a part of a character; None if its name does not tell them."""
    name, letters = tokenizer.id_to_token(token) or "", _byte_letters()
    if byte := BYTE.fullmatch(name):
        return bytes.fromhex(byte[1])
    return bytes(letters[each] for each in name) if letters.keys() >= set(name) else None


@cache
def _byte_letters() -> Mapping[str, int]:
    """Return the bytes by their letters in vocabularies of bytes (`ByteLevel`, as in GPT-2).

    A byte whose character can be printed is that character. The letters behind them are the other bytes.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    plain = {letter: ord(letter) for letter in alphabet if ord(letter) < 256}
    others = sorted({*range(256)} - {*plain.values()})
    return plain | dict(zip(alphabet[len(plain) :], others, strict=True))
