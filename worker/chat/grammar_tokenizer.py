"""The tokenizer of a model for llguidance, which masks the tokens that break a grammar."""

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from worker.jobs.prompt.template import PromptTemplate

if TYPE_CHECKING:
    from llguidance import LLTokenizer

__all__ = ["grammar_tokenizer"]

log = logging.getLogger(__name__)

#: Characters that matter in JSON, and whose bytes some tokenizers write as other characters.
SAMPLE = '{"a b":\n\t["\\u00e9", -1.5]}, é'


def grammar_tokenizer(
    template: PromptTemplate, eos_tokens: Collection[int], vocabulary: int | None = None
) -> "LLTokenizer | None":
    """Return llguidance's form of a model's tokenizer. It takes about a second.

    `vocabulary` is the number of the model's scores. Returns None if llguidance cannot read the tokenizer, or
    if it takes its tokens for other text than they stand for. Answers would then break their grammar without
    a sign. llguidance 1.7 and 1.9 take a new line for "Ċ" if the tokenizer has decoders both for
    `ByteFallback` and for `ByteLevel`. transformers 5.17 writes such a tokenizer out of a GGUF file.
    """
    from llguidance import LLTokenizer

    try:
        known = LLTokenizer(template.tokenizer_json, vocabulary, sorted(eos_tokens))
    except ValueError as error:
        log.warning("no structured answers, because llguidance cannot read the tokenizer: %s", str(error))
        return None
    tokens = template.tokenizer.encode(SAMPLE, add_special_tokens=False).ids
    text, read = template.tokenizer.decode(tokens), known.decode_bytes(tokens).decode(errors="replace")
    if read.strip() != text.strip():  # some tokenizers begin each text with a space
        log.warning("no structured answers, because llguidance takes the tokens of %r for %r", text, read)
        return None
    return known
