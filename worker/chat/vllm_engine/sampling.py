"""What vLLM is told of a request: how to draw its tokens, and where its sequence may end."""

from collections.abc import Set as AbstractSet

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from worker.chat.engine import GREEDY_BELOW, ChatRequest

#: The seed that vLLM takes for none, and what stands for it.
NO_SEED, INSTEAD = -1, 2**63 - 1


def sampling_params(request: ChatRequest, room: int, eos_tokens: AbstractSet[int]) -> SamplingParams:
    """The parameters of a request of which `room` tokens may still come.

    Text, and with it stop strings, are not vLLM's affair. Where vLLM draws by seed and position (its model
    runner V2), a resumed request goes on as it would have gone; its older runner begins a seed's draws anew.
    """
    params = SamplingParams(
        temperature=request.temperature if request.temperature >= GREEDY_BELOW else 0.0,
        top_p=request.top_p,
        seed=INSTEAD if request.seed == NO_SEED else request.seed,
        max_tokens=room,
        min_tokens=min(room, max(0, request.min_tokens - len(request.generated_ids))),
        ignore_eos=request.ignore_eos,
        stop_token_ids=[] if request.ignore_eos else sorted(eos_tokens),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,  # nobody else has it
    )
    params.all_stop_token_ids.update(eos_tokens)  # none of these before `min_tokens`, ignored or not
    return params
