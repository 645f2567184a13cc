"""Bias, penalties and bad words in vLLM, counted over all attempts.

vLLM counts an answer that an earlier attempt began as a part of the prompt. Its own penalties and bad words
would look only at the tokens behind it. So a processor of ours applies the rules, where vLLM allows that.
"""

from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, process_dict_updates

from worker.chat.engine import ChatRequest
from worker.chat.token_rules import Rules, rules_of
from worker.jobs.chat.sampling import SamplingParams as GivenParams

__all__ = ["RulesProcessor", "install_rules", "rules_args"]

#: The key of the rules in `SamplingParams.extra_args`.
KEY = "stoker_rules"


def install_rules(config: VllmConfig) -> bool:
    """Make vLLM's engine apply the rules of requests. Return False if this engine cannot.

    It can if its model runner is V1 and takes one step after the other, as it does on the CPU. With
    asynchronous scheduling the last token of a request is not known when its next step is prepared.
    """
    if (
        config.use_v2_model_runner
        or config.scheduler_config.async_scheduling
        or config.speculative_config is not None
    ):
        return False
    others = config.model_config.logits_processors or []
    config.model_config.logits_processors = [*others, f"{__name__}:{RulesProcessor.__name__}"]
    return True


def rules_args(request: ChatRequest, tokenizer: Any) -> dict[str, Any] | None:
    """Return the rules of a request for `SamplingParams.extra_args`; None if it asks for none."""
    rules = rules_of(request, tokenizer)
    if rules is None:
        return None
    given = rules.sampling.model_dump(include=RULES)
    return {KEY: [rules.prompt_tokens, given, [list(word) for word in rules.bad_words]]}


#: The sampling parameters that are rules.
RULES = {"presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "bad_words"}


class RulesProcessor(LogitsProcessor):  # type: ignore[misc]  # vLLM is not installed where mypy runs
    """A processor of vLLM's model runner V1 that applies the rules of each request."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        #: By row: the rules, the ids of the prompt with those of earlier attempts, and the list of later ids,
        #: which vLLM extends.
        self._rows: dict[int, tuple[Rules, list[int], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """Return False: the rules also hold for greedy requests."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the requests that come, go and change their rows."""
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Change the logits in place, shape (rows, vocabulary)."""
        for row, (rules, before, after) in self._rows.items():
            rules.apply(logits[row], [*before, *after])
        return logits


def _row(
    params: SamplingParams, before: list[int] | None, after: list[int]
) -> tuple[Rules, list[int], list[int]] | None:
    if not (given := (params.extra_args or {}).get(KEY)):
        return None
    prompt_tokens, sampling, bad_words = given
    return Rules(prompt_tokens, GivenParams.model_validate(sampling), bad_words), before or [], after
