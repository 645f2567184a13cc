"""Translates a chat request into vLLM's sampling parameters."""

from collections.abc import Set as AbstractSet
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from worker.chat.engine import GREEDY_BELOW
from worker.chat.request_tracker import AdmittedRequest
from worker.chat.vllm_engine.resuming_scheduler import GENERATED
from worker.jobs.chat.grammars import schema_text
from worker.jobs.chat.sampling import COMMON_PARAMETERS
from worker.jobs.chat.sampling import SamplingParams as GivenParams

#: The sampling parameters that this module translates (`ChatEngine.supports`).
SUPPORTED: frozenset[str] = COMMON_PARAMETERS | {
    "top_k",
    "min_p",
    "repetition_penalty",
    "logit_bias",
    "stop_token_ids",
    "include_stop_str_in_output",
    "logprobs",
    "top_logprobs",
}
#: Those that look only at the answer. They need an engine that knows where the answer of an earlier attempt
#: began: one with our processor of rules (`install_rules`), or one that moves its tokens (`moves_tokens`).
ANSWER_RULES = frozenset({"presence_penalty", "frequency_penalty", "bad_words"})
#: vLLM takes the seed -1 as "no seed". A request with that seed gets the other one instead.
NO_SEED, REPLACEMENT_SEED = -1, 2**63 - 1


def sampling_params(
    admitted: AdmittedRequest,
    eos_tokens: AbstractSet[int],
    rules: dict[str, Any] | None = None,
    *,
    moved: bool = False,
) -> SamplingParams:
    """Return vLLM's parameters for a request. With `rules`, vLLM applies them instead of its own.

    With `moved`, vLLM counts the tokens of an earlier attempt as output, otherwise as a part of the prompt.

    vLLM gets neither stop strings nor `stop_token_ids` and makes no text; Stoker does all of this. vLLM's
    model runner V2 draws by seed and position, so a resumed request continues as it would have without the
    interruption. Its older runner starts the draws of a seed again from the beginning.
    """
    given, generated = admitted.request.sampling, len(admitted.request.generated_ids)
    counted = generated if moved else 0
    max_tokens = admitted.max_new_tokens + counted
    params = SamplingParams(
        temperature=given.temperature if given.temperature >= GREEDY_BELOW else 0.0,
        top_p=given.top_p,
        top_k=given.top_k,
        min_p=given.min_p,
        repetition_penalty=1.0 if rules else given.repetition_penalty,
        presence_penalty=0.0 if rules else given.presence_penalty,
        frequency_penalty=0.0 if rules else given.frequency_penalty,
        logit_bias=None if rules else _biases(given) or None,
        bad_words=None if rules else given.bad_words or None,
        structured_outputs=_structure(given),
        extra_args=(rules or {}) | ({GENERATED: generated} if generated else {}) or None,
        seed=REPLACEMENT_SEED if given.seed == NO_SEED else given.seed,
        logprobs=given.top_logprobs if given.logprobs else None,
        max_tokens=max_tokens,
        min_tokens=min(max_tokens, max(0, given.min_tokens - generated + counted)),
        ignore_eos=given.ignore_eos,
        stop_token_ids=[] if given.ignore_eos else sorted(eos_tokens),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,  # no other code holds these parameters
    )
    # vLLM allows none of these tokens before `min_tokens`, also if `ignore_eos` is set.
    params.all_stop_token_ids.update(eos_tokens)
    return params


def _structure(given: GivenParams) -> StructuredOutputsParams | None:
    if (asked := given.structured_outputs) is None:
        return None
    if asked.regex is not None:
        return StructuredOutputsParams(regex=asked.regex)
    if asked.choice is not None:
        return StructuredOutputsParams(choice=asked.choice)
    if asked.grammar is not None:
        return StructuredOutputsParams(grammar=asked.grammar)
    return StructuredOutputsParams(json=schema_text(asked))


def _biases(given: GivenParams) -> dict[int, float]:
    return {int(token): bias for token, bias in given.logit_bias.items()}
