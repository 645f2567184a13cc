"""What a chat engine is: requests in, one batch of deltas out for each step of all running requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from worker.jobs.errors import JobFailed
from worker.jobs.prompt import PromptTemplate

FinishReason = Literal["stop", "length", "canceled", "error"]

#: Under this a temperature means greedy, as in vLLM: dividing by it would overflow.
GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A prompt and how to continue it.

    `id` is unique among running requests. `prompt` holds token ids, and `said` those of the answer that
    an earlier attempt has come to: the sequence goes on behind both. Of their text, what was certain then
    does not come again, and what was held back then comes as soon as it is certain. `max_tokens` counts
    the whole answer, `said` included; the model's context may end it earlier. A `temperature` under 1e-5
    means greedy; `seed` None means a random one. The same seed draws the same token at the same position
    of the sequence, whatever else runs, so a resumed request goes on as it would have gone.

    The first `min_tokens` of the answer, `said` included, are no end-of-sequence token, and no stop string
    is looked for in their text. With `ignore_eos` such a token is one like any other.
    """

    id: str
    prompt: Sequence[int]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    generated_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False


class Delta(NamedTuple):  # one is made for each token, and a frozen dataclass takes three times as long
    """What one step added to one request.

    `token_ids` are the new tokens: all of them, the end-of-sequence token and those of a stop string
    included (as vLLM counts usage). `text` is what they made certain; it may be empty: held back while it
    may become a stop string or is half a character. The one delta with a `finish_reason` is a request's
    last; `error` says why when that is "error": EngineDied means that nothing is wrong with the request.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    error: JobFailed | None = None


#: Called from the engine's thread, once a step, with all requests' deltas; must neither block nor raise.
OnStep = Callable[[Sequence[Delta]], None]

#: Called from the engine's thread, once, when it has died; every request has had its last delta by then.
OnBroken = Callable[[BaseException], None]


class ChatEngine(Protocol):
    """Runs up to `slots` requests at once, a token each a step; every request gets exactly one last delta.

    A step for which there is not enough memory ends requests with OutOfMemory, and the engine goes on.
    """

    @property
    def slots(self) -> int:
        """How many requests run at once; more than these wait inside."""

    @property
    def context_length(self) -> int:
        """Most tokens a sequence may have, prompt and answer together; known once started."""

    @property
    def prompt_template(self) -> PromptTemplate:
        """How messages become prompts for this model; known once started."""

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        """Load, warm up with the shapes that serving uses, then serve; raises if any of it fails."""

    def submit(self, request: ChatRequest) -> None:
        """Take a request; EngineDied if the engine is not serving.

        A prompt longer than the context ends as "error", one that leaves no room for a token as "length".
        """

    def cancel(self, request_id: str) -> None:
        """End a request as "canceled", its slot free within one step; unknown or finished ids are ignored."""

    def stop(self) -> None:
        """End what still runs as "error", stop the thread and let go of the model; not from a callback."""
