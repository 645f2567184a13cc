"""Tests of log-probabilities: the bytes of an answer's tokens make up its text."""

import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.support.chat.byte_tokenizer import TEXT, TOKENIZER
from worker.chat.engine import Candidates
from worker.chat.logprobs import describe


def character_tokenizer() -> Tokenizer:
    """Make a tokenizer of characters, spaces and bytes, like that of Llama 2."""
    names = ["▁", "a", "b", "▁a", "\ufffd", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: n for n, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def joined(text: str, tokenizer: Tokenizer) -> bytes:
    """Return the bytes of the tokens of a text."""
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    return b"".join(bytes(describe(Candidates([token], [-1.0]), 0, tokenizer)["bytes"]) for token in tokens)


@given(TEXT)
@settings(deadline=None)
def test_logprobs_have_the_bytes_of_parts_of_characters(text: str) -> None:
    assert joined(text, TOKENIZER) == text.encode()


@pytest.mark.parametrize("text", ["a b", " a a", "東京 a", "é🎉a\ufffd", "  "])
def test_logprobs_have_the_bytes_of_spaces_and_of_byte_tokens(text: str) -> None:
    assert joined(text, character_tokenizer()) == text.encode()


def test_logprobs_name_a_part_of_a_character_by_the_replacement_character() -> None:
    token = TOKENIZER.encode("日").ids[0]
    entry = describe(Candidates([token, token], [-1.0, -float("inf")]), 1, TOKENIZER)
    assert entry["token"] == "\ufffd"
    assert entry["top_logprobs"][0]["logprob"] == -9999
