"""Measure chats through the whole stack, beside the bare engine in the same run.

    python -m bench.chat [--at-once 1 8] [--tokens 64] [--chats 2] [--rounds 3] [--engine auto]
                         [--devices auto] [--web-processes 1] [--range-ratio 0 0.5]

The bare engine is the engine of a worker, in this process, with nothing around it. The stack is SSE clients →
API → Redis → Celery → lane → engine, from a `stoker up` that the benchmark starts. Both serve the given
numbers of clients at once. Each client sends several greedy chats, one after another, and reads every answer
to its last token. Both get the same prompts, and no prompt comes twice. The two take turns, so that other
load on the machine affects both. With vLLM, give each of them a part of the GPU:
`STOKER_VLLM_ARGS='{"gpu_memory_utilization":0.4}'`.

With a range ratio of 0 all answers have the same length. The clients of the bare engine then run in lockstep:
all chats end in one step of the engine, and all next chats begin in another. Clients that reach an engine
over a network cannot run in lockstep. With a range ratio of 0.5 an answer has between half and one and a half
times as many tokens (as with `vllm bench serve --random-range-ratio`). Then the chats of both begin and end
while other chats run, as in practice.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain, count, pairwise
from random import Random

from bench.crowd import Answer
from bench.streams import Timing, median_ms, run_clients, stream_chat, tokens_per_second
from tests.support.chat.requests import chat_request
from webapi.cli.demo import running_stack
from worker.chat.engine import Delta
from worker.chat.engines import make_engine
from worker.devices.lease import lease
from worker.jobs.settings import Settings

TOPICS = ("a dragon", "a river", "two brothers", "the sea", "a lost key", "winter", "a train", "a garden")

#: Runs the chat of a number, with an answer of so many tokens.
RunChat = Callable[[int, int], Awaitable[Timing]]
#: Runs the chat of a number, whose length follows from the number.
RunNumberedChat = Callable[[int], Awaitable[Timing]]


def prompt(number: int) -> str:
    return f"This is part {number}: write a very long story about {TOPICS[number % 8]} and what came of it."


class BareEngine:
    """The engine with nothing around it, on a device of its own or beside the stack's engine."""

    def __init__(self, settings: Settings) -> None:
        # With a lock directory of its own, it may take the device that the stack has leased.
        self.device = lease(settings.devices, settings.home_dir / "bench-locks")
        named = make_engine(settings, self.device.torch_device, self.device.gpus)
        self.name, self.engine = named.name, named.engine
        self._finished: dict[str, asyncio.Future[None]] = {}
        self._times: dict[str, list[float]] = {}
        self._counts: dict[str, int] = {}
        self._numbers = count()
        self.engine.start(self._on_step, lambda error: None)

    def _on_step(self, deltas: Sequence[Delta]) -> None:
        now = time.perf_counter()
        for delta in deltas:
            if delta.token_ids:
                self._times[delta.id].append(now)
                self._counts[delta.id] += len(delta.token_ids)
            if delta.finish_reason:
                finished = self._finished.pop(delta.id)
                finished.get_loop().call_soon_threadsafe(finished.set_result, None)

    async def run_chat(self, number: int, tokens: int) -> Timing:
        """Run the chat of a number."""
        return (await self.run_prompt(prompt(number), tokens)).timing

    async def run_prompt(self, content: str, tokens: int) -> Answer:
        """Run a greedy chat with this message, and an answer of so many tokens."""
        began, chat_id = time.perf_counter(), str(next(self._numbers))
        self._finished[chat_id] = finished = asyncio.get_running_loop().create_future()
        self._times[chat_id], self._counts[chat_id] = [], 0
        ids = self.engine.prompt_template.encode([{"role": "user", "content": content}])
        self.engine.submit(chat_request(chat_id, ids, tokens, temperature=0, ignore_eos=True))
        await finished
        times, received = self._times.pop(chat_id), self._counts.pop(chat_id)
        pauses = [later - earlier for earlier, later in pairwise(times)]
        return Answer(Timing(began, times[0], times[-1], received, len(times)), pauses)


class Measurement:
    """The rates and timings of either the bare engine or the stack, over all rounds."""

    def __init__(self, run_chat: RunNumberedChat) -> None:
        self.run_chat = run_chat
        self.rates: list[float] = []
        self.timings: list[Timing] = []

    def add_round(self, at_once: int, chats: int, first: int) -> None:
        """Measure `chats` chats of each client. A first chat of each precedes them and is not timed."""
        clients = asyncio.run(run_clients(at_once, 1 + chats, self.run_chat, first))
        self.rates.append(tokens_per_second(clients))
        self.timings += chain.from_iterable(timings[1:] for timings in clients)

    @property
    def figures(self) -> tuple[float, float, float]:
        """Tokens/s (median of the rounds), ms to the first token and ms between tokens (medians of chats)."""
        firsts, betweens = ([getattr(t, name) for t in self.timings] for name in ("first_s", "between_s"))
        return statistics.median(self.rates), median_ms(firsts), median_ms(betweens)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8], help="numbers of clients")
    parser.add_argument("--tokens", type=int, default=64, help="tokens per answer")
    parser.add_argument("--range-ratio", type=float, nargs="+", default=[0.0])
    parser.add_argument("--chats", type=int, default=2, help="timed chats per client and round")
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

        def run_through_stack(number: int, tokens: int) -> Awaitable[Timing]:
            return stream_chat(client.url, model, prompt(number), tokens, settings.api_key)

        try:
            print(f"{bare.name} on {bare.device.label}; columns in threes: bare engine, stack, stack / bare")
            # Every prompt is new, because vLLM caches the prompts that it has seen.
            firsts = count(step=max(args.at_once) * (1 + args.chats))
            for ratio in args.range_ratio:
                print(f"answers of {args.tokens} tokens ± {ratio:.0%}")
                compare(args, ratio, [bare.run_chat, run_through_stack], firsts)
        finally:
            bare.engine.stop()  # otherwise the engine's thread would keep this process alive


def length(number: int, tokens: int, range_ratio: float) -> int:
    """Return the number of tokens of this chat's answer, which is the same in every call."""
    return round(tokens * Random(number).uniform(1 - range_ratio, 1 + range_ratio))


def with_lengths(run_chat: RunChat, tokens: int, range_ratio: float) -> RunNumberedChat:
    """Return a function that runs a chat with the length of its number."""
    return lambda number: run_chat(number, length(number, tokens, range_ratio))


def compare(
    args: argparse.Namespace, ratio: float, contestants: Sequence[RunChat], firsts: Iterator[int]
) -> None:
    """Let the contestants take turns, and print a row of the table per number of clients.

    Each item of `firsts` is the number of a round's first chat.
    """
    chats = [with_lengths(run_chat, args.tokens, ratio) for run_chat in contestants]
    print(f"{'at once':>8}  {'tokens/s':^22}  {'first token, ms':^22}  {'between tokens, ms':^22}")
    for at_once in args.at_once:
        measurements = [Measurement(run_chat) for run_chat in chats]
        for _ in range(args.rounds):
            first = next(firsts)
            for measurement in measurements:
                measurement.add_round(at_once, args.chats, first)
        pairs = zip(*[measurement.figures for measurement in measurements], strict=True)
        cells = [f"{bare:>8.1f} {stack:>8.1f} {stack / bare:>4.2f}" for bare, stack in pairs]
        print(f"{at_once:>8}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
