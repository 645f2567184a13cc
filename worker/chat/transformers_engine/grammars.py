"""Compiled grammars of structured answers, and the progress of each answer in its grammar."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from worker.chat.engine import ChatRequest
from worker.jobs.chat.grammars import check_grammar, grammar_limits, grammar_text
from worker.jobs.errors import InvalidStructure

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

__all__ = ["AnswerGrammar", "Grammars"]

#: Compiled grammars that are kept for later requests.
KEPT_GRAMMARS = 32


class AnswerGrammar:
    """The place of one answer in its grammar.

    Its request's first `prompt_tokens` tokens are the prompt, the later ones the answer. So the tokens of an
    earlier attempt count, too.
    """

    def __init__(self, matcher: "LLMatcher", prompt_tokens: int) -> None:
        self._matcher = matcher
        self._tokens = prompt_tokens

    def __deepcopy__(self, memo: object) -> "AnswerGrammar":
        """Return the same object: transformers copies the options of a request that it starts again."""
        return self

    @property
    def failed(self) -> bool:
        """True if the matcher has met one of its limits. The answer cannot go on."""
        return self._matcher.is_error()

    def follow(self, tokens: Sequence[int]) -> None:
        """Read the tokens of the prompt and the answer that are new since the last call."""
        self._matcher.consume_tokens(list(tokens[self._tokens :]))
        self._tokens = len(tokens)

    def mask(self, scores: torch.Tensor) -> None:
        """Set the scores of tokens that break the grammar to minus infinity in place, shape (vocabulary,).

        When the grammar is complete, only end-of-sequence tokens are left.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = torch.from_numpy(np.unpackbits(bits, bitorder="little", count=scores.size(-1)))
        scores.masked_fill_(allowed == 0, -torch.inf)


class Grammars:
    """The grammars of a model's tokenizer, which compiles each grammar once."""

    def __init__(self, tokenizer: "LLTokenizer") -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def start_answer(self, request: ChatRequest) -> AnswerGrammar | None:
        """Return the grammar of a request's answer; None if it asks for none.

        The caller's thread compiles the grammar, and other threads go on meanwhile. Raises
        `InvalidStructure` if there is no such grammar.
        """
        asked = request.sampling.structured_outputs
        if asked is None:
            return None
        text = grammar_text(asked)
        with self._lock:
            compiled = self._compiled.get(text)
        if compiled is None:
            check_grammar(asked)
            compiled = self._compile(text)
        with self._lock:
            self._compiled[text] = compiled
            self._compiled.move_to_end(text)
            while len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        return AnswerGrammar(compiled.deep_copy(), len(request.prompt))

    def _compile(self, text: str) -> "LLMatcher":
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, text, log_level=0, limits=grammar_limits())
        if matcher.is_error():
            raise InvalidStructure(matcher.get_error())
        return matcher
