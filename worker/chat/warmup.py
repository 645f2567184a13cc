"""Requests that an engine runs before it serves, so that the first real request finds it warm."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from queue import SimpleQueue
from typing import Any

from worker.chat.engine import ChatEngine, ChatRequest, Delta
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.chat.structured_outputs import StructuredOutputs
from worker.jobs.errors import EngineFailed

#: Lengths of warm-up prompts in tokens: that of one long prompt, and that of the others.
LONG_PROMPT, SHORT_PROMPT = 512, 32

#: Request options for which vLLM or our engines run different code.
GREEDY: dict[str, Any] = {"temperature": 0.0}
SAMPLED: dict[str, Any] = {"top_p": 0.9}
SEEDED: dict[str, Any] = {**SAMPLED, "seed": 1}
STOPPED: dict[str, Any] = {**GREEDY, "stop": ["\0"], "min_tokens": 1}
STRUCTURED: dict[str, Any] = {**GREEDY, "structured_outputs": StructuredOutputs(json_object=True)}
OPTIONS: Sequence[dict[str, Any]] = (GREEDY, SAMPLED, {}, SEEDED, STOPPED)


class WarmUp:
    """The listener of an engine while it warms up. `run_batches` runs the warm-up requests."""

    def __init__(self) -> None:
        self._ended: SimpleQueue[Delta] = SimpleQueue()

    def on_step(self, deltas: Sequence[Delta]) -> None:
        """Note the requests that a step has ended (`OnStep`)."""
        for delta in deltas:
            if delta.finish_reason:
                self._ended.put(delta)

    def on_broken(self, error: BaseException) -> None:
        """Do nothing (`OnBroken`): the last deltas of the requests have already reported the failure."""

    def run_batches(self, engine: ChatEngine, batches: Iterable[Iterable[ChatRequest]]) -> None:
        """Run one batch after another, the requests of a batch at once.

        If a request fails, stop the engine and raise `EngineFailed`.
        """
        try:
            for batch in batches:
                self._run_batch(engine, batch)
        except BaseException:
            engine.stop()
            raise

    def _run_batch(self, engine: ChatEngine, requests: Iterable[ChatRequest]) -> None:
        batch = list(requests)
        for request in batch:
            engine.submit(request)
        for _ in batch:
            if (delta := self._ended.get()).finish_reason == "error":
                raise EngineFailed(f"the chat engine failed to warm up: {delta.error}")


def warmup_batches(
    slots: int, context_length: int, graph_sizes: Iterable[int] = (), *, structured: bool = False
) -> Iterator[Sequence[ChatRequest]]:
    """Yield batches of requests; an engine runs the requests of a batch at once.

    1. A long prompt alone, then a prompt of each size in tokens for which the engine has a CUDA graph
       (`graph_sizes`), because the first launch of a graph is slow.
    2. A request with each kind of options, alone. With `structured`, also one for a structured answer.
    3. Batches of 2, 4, 8 … `slots` requests: all greedy, all sampled, and with mixed options.
    """
    names = count()

    def request(options: Mapping[str, Any], size: int = SHORT_PROMPT) -> ChatRequest:
        n = next(names)
        pairs = max(1, min(size, context_length - 4) // 2)
        prompt = [n % 100, n // 100 % 100] * pairs  # no two begin alike, so none reuses another's cache
        return ChatRequest(f"warmup {n}", prompt, SamplingParams(max_tokens=2, **options))

    yield from ([request(GREEDY, size)] for size in (LONG_PROMPT, *graph_sizes))
    yield from ([request(options)] for options in (*OPTIONS, *([STRUCTURED] if structured else [])))
    sizes = [2**n for n in range(1, slots.bit_length())]
    for size in sorted({*sizes, slots} - {1}):
        for mix in ([GREEDY], [SAMPLED], OPTIONS):
            yield [request(mix[n % len(mix)]) for n in range(size)]
