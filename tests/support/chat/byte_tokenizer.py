"""A small tokenizer that splits characters into bytes, and Hypothesis strategies for its texts."""

from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

__all__ = ["END", "MARKER", "STOPS", "TEXT", "TOKENIZER"]


def _byte_tokenizer() -> Tokenizer:
    """Make a tokenizer with one token per byte, a few merges, and some special tokens.

    Characters are split into several tokens, as in the vocabularies of real models.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("ã", "ģ"), ("ð", "Ł")]
    names = [*letters, *("".join(pair) for pair in merges)]
    vocabulary = {name: n for n, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"])
    return tokenizer


TOKENIZER = _byte_tokenizer()
#: The id of the special token, which ends an answer.
END = TOKENIZER.get_vocab()["<|end|>"]
#: The id of a special token that marks a part of the answer.
MARKER = TOKENIZER.get_vocab()["<think>"]
TEXT = st.text(
    st.sampled_from("the cat 日本語🎉é\n")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"),
    max_size=40,
)
STOPS = st.lists(st.text("the ca日🎉", min_size=1, max_size=4), max_size=3)
