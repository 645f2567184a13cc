"""An engine's own first requests, run before anyone else's so that these find everything warm."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from queue import SimpleQueue
from typing import Any

from worker.chat.engine import ChatEngine, ChatRequest, Delta
from worker.jobs.errors import EngineFailed

#: Tokens of prompts that are rehearsed: one that is long, and all others.
LONG_PROMPT, SHORT_PROMPT = 512, 32

#: What requests ask for, as far as vLLM or we go other ways for it.
GREEDY: dict[str, Any] = {"temperature": 0.0}
SAMPLED: dict[str, Any] = {"top_p": 0.9}
SEEDED: dict[str, Any] = {**SAMPLED, "seed": 1}
STOPPED: dict[str, Any] = {**GREEDY, "stop": ("\0",), "min_tokens": 1}
KINDS: Sequence[dict[str, Any]] = (GREEDY, SAMPLED, {}, SEEDED, STOPPED)


class WarmUp:
    """Listens to an engine that is not serving others yet."""

    def __init__(self) -> None:
        self._ended: SimpleQueue[Delta] = SimpleQueue()

    def on_step(self, deltas: Sequence[Delta]) -> None:
        """Hear of a step (OnStep)."""
        for delta in deltas:
            if delta.finish_reason:
                self._ended.put(delta)

    def on_broken(self, error: BaseException) -> None:
        """Hear of the engine's death (OnBroken): every request has had its end by then."""

    def run_all(self, engine: ChatEngine, warmup_batches: Iterable[Iterable[ChatRequest]]) -> None:
        """Run one crowd after another; an engine that fails at that is stopped."""
        try:
            for crowd in warmup_batches:
                self.run(engine, crowd)
        except BaseException:
            engine.stop()
            raise

    def run(self, engine: ChatEngine, requests: Iterable[ChatRequest]) -> None:
        """Run these at once to their ends; EngineFailed if one does not get there."""
        crowd = list(requests)
        for request in crowd:
            engine.submit(request)
        for _ in crowd:
            if (delta := self._ended.get()).finish_reason == "error":
                raise EngineFailed(f"the chat engine failed to warm up: {delta.error}")


def warmup_batches(
    slots: int, context_length: int, graphs: Iterable[int] = ()
) -> Iterator[Sequence[ChatRequest]]:
    """What to run at once, before serving: a long prompt, one of each size that an engine has a CUDA graph
    for (its first launch is slow), each kind alone, then warmup_batches of all sizes."""
    names = count()

    def request(options: Mapping[str, Any], size: int = SHORT_PROMPT) -> ChatRequest:
        n = next(names)
        pairs = max(1, min(size, context_length - 4) // 2)
        prompt = [n % 100, n // 100 % 100] * pairs  # no two begin alike
        return ChatRequest(f"warmup {n}", prompt, 2, **options)

    yield from ([request(GREEDY, size)] for size in (LONG_PROMPT, *graphs))
    yield from ([request(kind)] for kind in KINDS)
    sizes = [2**n for n in range(1, slots.bit_length())]
    for size in sorted({*sizes, slots} - {1}):
        for kinds in ([GREEDY], [SAMPLED], KINDS):
            yield [request(kinds[n % len(kinds)]) for n in range(size)]
