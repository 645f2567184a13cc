"""Translates a chat request into vLLM's sampling parameters."""

from collections.abc import Set as AbstractSet

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from worker.chat.engine import GREEDY_BELOW
from worker.chat.request_tracker import AdmittedRequest
from worker.jobs.sampling import COMMON_PARAMETERS

#: The sampling parameters that this module translates (`ChatEngine.supports`). vLLM counts an answer that an
#: earlier attempt began as a part of the prompt. `presence_penalty`, `frequency_penalty` and `bad_words` look
#: only at the answer, so that a resumed answer would go on differently.
SUPPORTED = COMMON_PARAMETERS | {
    "top_k",
    "min_p",
    "repetition_penalty",
    "logit_bias",
    "stop_token_ids",
    "include_stop_str_in_output",
    "logprobs",
    "top_logprobs",
}
#: vLLM takes the seed -1 as "no seed". A request with that seed gets the other one instead.
NO_SEED, REPLACEMENT_SEED = -1, 2**63 - 1


def sampling_params(admitted: AdmittedRequest, eos_tokens: AbstractSet[int]) -> SamplingParams:
    """Return vLLM's parameters for a request.

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
        repetition_penalty=given.repetition_penalty,
        logit_bias={int(token): bias for token, bias in given.logit_bias.items()} or None,
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
