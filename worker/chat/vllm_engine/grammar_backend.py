"""vLLM's backend for structured answers on llguidance, changed to obey our limits."""

from typing import Any

from llguidance import LLMatcher
from vllm.v1.structured_output.backend_guidance import (
    GuidanceBackend,
    GuidanceGrammar,
    serialize_guidance_grammar,
)

from worker.jobs.chat.grammars import grammar_limits

__all__ = ["LimitedGuidance"]


class LimitedGuidance(GuidanceBackend):  # type: ignore[misc]  # vLLM is not installed where mypy runs
    """vLLM's backend, which has no settings for the limits of llguidance.

    A grammar that cannot be used raises nothing: vLLM 0.24 would die of that. Its state is an error.
    """

    def compile_grammar(self, request_type: Any, grammar_spec: str, *_: Any, **__: Any) -> GuidanceGrammar:
        """Compile a grammar. A thread of vLLM's pool calls this."""
        try:
            text = serialize_guidance_grammar(request_type, grammar_spec)
        except ValueError:
            text = ""  # no grammar, so that the matcher begins with an error
        matcher = LLMatcher(self.ll_tokenizer, text, log_level=0, limits=grammar_limits())
        return GuidanceGrammar(ll_matcher=matcher, ll_tokenizer=self.ll_tokenizer, vocab_size=self.vocab_size)
