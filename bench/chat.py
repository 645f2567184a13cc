"""Chats through the whole stack, beside the bare engine, in one run.

    python -m bench.chat [--at-once 1 8] [--tokens 64] [--chats 2] [--rounds 3] [--engine auto]
                         [--devices auto] [--web-processes 1] [--range-ratio 0 0.5]

Bare engine: what a worker runs, in this process, with nothing around it. Stack: SSE clients → API → Redis →
Celery → lane → engine, from a `stoker up` that the benchmark starts. So many clients at once, each some chats
one after another, greedy, every answer to its last token; both get the same prompts, and none of them twice.
The two take turns, so that whatever else the machine does falls on both; with vLLM give each of them a part
of the GPU (`STOKER_VLLM_ARGS='{"gpu_memory_utilization":0.4}'`).

With a range ratio of 0 all answers are as long. The bare engine's clients then keep step: all chats end in
one step of the engine, and the next ones all begin in another, which nothing that is reached over a network
can do. With 0.5 answers have half as many tokens to half as many again (as `vllm bench serve
--random-range-ratio`), so that both ways' chats begin and end when others are in their midst, as in life.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain, count
from random import Random

from bench.streams import Timing, in_turns, median_ms, stream, tokens_a_second
from webapi.cli.demo import running_stack
from worker.chat.engine import ChatRequest, Delta
from worker.chat.engines import make_engine
from worker.devices.lease import lease
from worker.jobs.settings import Settings

TOPICS = ("a dragon", "a river", "two brothers", "the sea", "a lost key", "winter", "a train", "a garden")

#: Makes the chat of this number, and so many tokens.
Side = Callable[[int, int], Awaitable[Timing]]
Way = Callable[[int], Awaitable[Timing]]


def prompt(number: int) -> str:
    return f"This is part {number}: write a very long story about {TOPICS[number % 8]} and what came of it."


class BareEngine:
    """The engine with nothing around it, on a device of its own or beside the stack's."""

    def __init__(self, settings: Settings) -> None:
        self.device = lease(settings.devices, settings.home_dir / "bench-locks")  # the stack has the others
        named = make_engine(settings, self.device.torch_device, self.device.gpus)
        self.name, self.engine = named.name, named.engine
        self._running: dict[str, asyncio.Future[None]] = {}
        self._times: dict[str, list[float]] = {}
        self._counts: dict[str, int] = {}
        self.engine.start(self._on_step, lambda error: None)

    def _on_step(self, deltas: Sequence[Delta]) -> None:
        now = time.perf_counter()
        for delta in deltas:
            if delta.token_ids:
                self._times[delta.id].append(now)
                self._counts[delta.id] += len(delta.token_ids)
            if delta.finish_reason:
                over = self._running[delta.id]
                over.get_loop().call_soon_threadsafe(over.set_result, None)

    async def chat(self, number: int, tokens: int) -> Timing:
        began, name, loop = time.perf_counter(), str(number), asyncio.get_running_loop()
        self._running[name] = over = loop.create_future()
        self._times[name], self._counts[name] = [], 0
        ids = self.engine.prompt_template.encode([{"role": "user", "content": prompt(number)}])
        self.engine.submit(ChatRequest(name, ids, tokens, temperature=0, ignore_eos=True))
        await over
        times = self._times[name]
        return Timing(began, times[0], times[-1], self._counts[name], len(times))


class Load:
    """What one way did with so many clients, over all rounds."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.rates: list[float] = []
        self.timings: list[Timing] = []

    def run(self, at_once: int, chats: int, first: int) -> None:
        clients = asyncio.run(in_turns(at_once, 1 + chats, self.way, first))
        self.rates.append(tokens_a_second(clients))
        self.timings += chain.from_iterable(timings[1:] for timings in clients)

    @property
    def figures(self) -> tuple[float, float, float]:
        """Tokens/s (median of the rounds); ms to the first token and between tokens (median of the chats)."""
        firsts, betweens = ([getattr(t, name) for t in self.timings] for name in ("first_s", "between_s"))
        return statistics.median(self.rates), median_ms(firsts), median_ms(betweens)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--range-ratio", type=float, nargs="+", default=[0.0])
    parser.add_argument("--chats", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine")
    parser.add_argument("--devices")
    parser.add_argument("--web-processes", type=int)
    args = parser.parse_args()
    own = {"engine": args.engine, "devices": args.devices, "web_processes": args.web_processes}
    settings = Settings.from_env().replace(slots=max(args.at_once), **own)
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    with running_stack(settings, settings.home_dir / "bench.log") as client:
        model = settings.model_name("chat")
        bare = BareEngine(settings)

        def through_stack(number: int, tokens: int) -> Awaitable[Timing]:
            return stream(client.url, model, prompt(number), tokens, settings.api_key)

        try:
            print(
                f"{bare.name} on {bare.device.label}; of each pair the bare engine, the stack, stack / bare"
            )
            # No prompt comes twice, or vLLM would know it.
            firsts = count(step=max(args.at_once) * (1 + args.chats))
            for ratio in args.range_ratio:
                print(f"answers of {args.tokens} tokens ± {ratio:.0%}")
                compare(args, ratio, [bare.chat, through_stack], firsts)
        finally:
            bare.engine.stop()  # its thread would keep this process from ending


def length(number: int, tokens: int, range_ratio: float) -> int:
    """Tokens of this chat's answer: always the same, and other chats' others."""
    return round(tokens * Random(number).uniform(1 - range_ratio, 1 + range_ratio))


def compare(args: argparse.Namespace, ratio: float, sides: Sequence[Side], firsts: Iterator[int]) -> None:
    ways = [lambda number, side=side: side(number, length(number, args.tokens, ratio)) for side in sides]
    print(f"{'at once':>8}  {'tokens/s':^22}  {'first token, ms':^22}  {'between tokens, ms':^22}")
    for at_once in args.at_once:
        loads = [Load(way) for way in ways]
        for _ in range(args.rounds):
            first = next(firsts)
            for load in loads:
                load.run(at_once, args.chats, first)
        pairs = zip(*[load.figures for load in loads], strict=True)
        cells = [f"{one:>8.1f} {other:>8.1f} {other / one:>4.2f}" for one, other in pairs]
        print(f"{at_once:>8}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
