"""Translates a chat request into vLLM's sampling parameters."""

from collections.abc import Set as AbstractSet
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from worker.chat.engine import GREEDY_BELOW
from worker.chat.request_tracker import AdmittedRequest
from worker.jobs.sampling import COMMON_PARAMETERS
from worker.jobs.sampling import SamplingParams as GivenParams

#: The sampling parameters that this module translates (`ChatEngine.supports`). vLLM counts an answer that an
#: earlier attempt began as a part of the prompt. `presence_penalty`, `frequency_penalty` and `bad_words` look
#: only at the answer, so that a resumed answer would go on differently.
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
#: Those of an engine with our processor of rules (`install_rules`).
SUPPORTED_WITH_RULES = SUPPORTED | {"presence_penalty", "frequency_penalty", "bad_words"}
#: vLLM takes the seed -1 as "no seed". A request with that seed gets the other one instead.
NO_SEED, REPLACEMENT_SEED = -1, 2**63 - 1


def sampling_params(
    admitted: AdmittedRequest, eos_tokens: AbstractSet[int], rules: dict[str, Any] | None = None
) -> SamplingParams:
    """Return vLLM's parameters for a request. With `rules`, vLLM applies them instead of its own.

    vLLM gets neither stop strings nor `stop_token_ids` and makes no text; Stoker does all of this. vLLM's
    model runner V2 draws by seed and position, so a resumed request continues as it would have without the
    interruption. Its older runner starts the draws of a seed again from the beginning.
    """
    given, max_tokens = admitted.request.sampling, admitted.max_new_tokens
    params = SamplingParams(
        temperature=given.temperature if given.temperature >= GREEDY_BELOW else 0.0,
        top_p=given.top_p,
        top_k=given.top_k,
        min_p=given.min_p,
        repetition_penalty=1.0 if rules else given.repetition_penalty,
        logit_bias=None if rules else _biases(given) or None,
        extra_args=rules,
        seed=REPLACEMENT_SEED if given.seed == NO_SEED else given.seed,
        logprobs=given.top_logprobs if given.logprobs else None,
        max_tokens=max_tokens,
        min_tokens=min(max_tokens, max(0, given.min_tokens - len(admitted.request.generated_ids))),
        ignore_eos=given.ignore_eos,
        stop_token_ids=[] if given.ignore_eos else sorted(eos_tokens),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,  # no other code holds these parameters
    )
    # vLLM allows none of these tokens before `min_tokens`, also if `ignore_eos` is set.
    params.all_stop_token_ids.update(eos_tokens)
    return params


def _biases(given: GivenParams) -> dict[int, float]:
    return {int(token): bias for token, bias in given.logit_bias.items()}
