"""The interface of chat engines: an engine takes requests and reports the new tokens of each step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from worker.jobs.chat.logprobs import TokenLogprob
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.errors import JobFailed
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.readings import EngineStats

FinishReason = Literal["stop", "length", "canceled", "error"]

#: A temperature below this value means greedy, as in vLLM. Dividing the logits by it would overflow.
GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A prompt and the options for its answer.

    - `id`: unique among running requests.
    - `prompt`: token ids.
    - `sampling`: the parameters that clients give. Their numbers of tokens include `generated_ids`. A
      temperature below 1e-5 means greedy. A seed draws by position, so that a resumed request continues as it
      would have without the interruption. The first `min_tokens` tokens are no end-of-sequence tokens, and
      the engine looks for no stop string in their text.
    - `generated_ids`: the token ids that an earlier attempt generated. The engine continues after them.
      Text that the earlier attempt already emitted is not repeated. Text it held back (half a character, the
      start of a stop string) is emitted once it is decided.
    - `cache_salt`: requests share cached prefixes of their prompts only with requests of the same salt. The
      time until the first token would otherwise tell what others have sent. It may be "", and contains only
      letters and digits.
    - `marker_tokens`: the ids of special tokens whose text is part of the answer's text, because it marks
      reasoning or a call of a tool. Other special tokens give no text.
    - `adapter`: the name of the LoRA adapter that answers; empty if the model itself does.
    """

    id: str
    prompt: Sequence[int]
    sampling: SamplingParams
    generated_ids: tuple[int, ...] = ()
    cache_salt: str = ""
    marker_tokens: frozenset[int] = frozenset()
    adapter: str = ""


class Candidates(NamedTuple):
    """The chosen token and the likeliest tokens of its place, with the model's natural log-probabilities.

    The chosen token is the first one, and may occur again among the likeliest ones. The log-probabilities
    are those before temperature, bias and penalties.
    """

    ids: Sequence[int]
    logprobs: Sequence[float]


class Delta(NamedTuple):  # one is made for each token, and a frozen dataclass takes three times as long
    """The addition of one step to the answer of one request.

    - `id`: the id of the request.
    - `text`: the text that is final after this step. It is empty while the engine holds text back: half a
      character, or text that may become a stop string.
    - `token_ids`: all new tokens. The end-of-sequence token and the tokens of a stop string are included, as
      in vLLM's usage counts.
    - `finish_reason`: set in the last delta of a request, and only there.
    - `error`: the cause if `finish_reason` is "error". `EngineDied` means that the engine failed and the
      request itself is sound.
    - `logprobs`: the log-probabilities of all new tokens if the request asks for them.
    - `cached_tokens`: in the first delta of a request, how many tokens of its prompt the engine has found in
      its cache.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    error: JobFailed | None = None
    logprobs: Sequence[TokenLogprob] = ()
    cached_tokens: int = 0


#: The engine's thread calls it once per step with the deltas of all requests. It must not block or raise.
OnStep = Callable[[Sequence[Delta]], None]

#: The engine's thread calls it once, after the engine has died and every request has had its last delta.
OnBroken = Callable[[BaseException], None]


class ChatEngine(Protocol):
    """An engine that runs up to `slots` requests at once and gives each one token per step.

    Every request gets exactly one delta with a finish reason. If there is not enough memory for a step, the
    engine ends requests with `OutOfMemory` and continues to serve.
    """

    @property
    def slots(self) -> int:
        """The number of requests that run at once; further requests wait inside the engine."""

    @property
    def context_length(self) -> int:
        """The most tokens of a sequence, prompt and answer together; known after `start`."""

    @property
    def prompt_template(self) -> PromptTemplate:
        """The template that turns messages into a prompt for this model; known after `start`."""

    @property
    def supports(self) -> frozenset[str]:
        """The names of the fields of `SamplingParams` that the engine obeys; known after `start`.

        They include `COMMON_PARAMETERS`. The API refuses all others.
        """

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        """Load the model, warm up with the shapes that serving uses, then serve.

        Raises if any of these steps fails.
        """

    def submit(self, request: ChatRequest) -> None:
        """Accept a request. Raises `EngineDied` if the engine is not serving.

        A prompt that is empty or longer than the context ends with "error". A prompt that leaves no room for
        a token ends with "length".
        """

    def cancel(self, request_id: str) -> None:
        """End a request with "canceled" and free its slot within one step.

        Unknown and finished ids are ignored.
        """

    def stats(self) -> EngineStats:
        """Return the use of the engine's cache. Any thread may call it at any time, also before `start`."""

    def stop(self) -> None:
        """End the running requests with "error", stop the thread and release the model.

        Must not be called from a callback.
        """
