"""A real run beside its simulation: the same chats, on a stack whose engines take no CPU time."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from bench.simulation.arrivals import Chat, arrivals
from bench.simulation.costs import Costs
from bench.simulation.figures import Figures, pair
from bench.simulation.installation import Installation
from bench.simulation.plan import DAY_S, Plan, Speed
from bench.simulation.stack import Reading, Stack, running_stack
from bench.slow_worker import STEP_S
from bench.streams import Timing, stream_chat
from worker.jobs.ledger.reader import LedgerReader

__all__ = ["check"]

#: The installation: workers, slots, tokens of an answer, and the share of the slots that the load takes.
WORKERS, SLOTS, TOKENS, LOAD = 3, 4, 40.0, 0.8
#: Chats before the others, which warm the processes up and do not count.
WARM_UP = 20


def check(seconds: float, seed: int, costs: Costs) -> None:
    """Run the chats on the stack, simulate them, and print both."""
    per_day = DAY_S * LOAD * WORKERS * SLOTS / (TOKENS * STEP_S)
    plan = Plan(
        gpus=WORKERS,
        slots=SLOTS,
        models=(1.0,),
        speed=Speed([1], [STEP_S]),
        api_processes=1,
        chats_per_day=per_day,
        keys=1,
        peak_factor=1.0,
        bursts=0,
        tokens_out=TOKENS,
        lengths="exponential",
        deaths_per_day=0.0,
        round_trip_s=0.0,
        seconds=seconds,
        seed=seed,
    )
    chats = list(arrivals(plan))
    with running_stack("bench.slow_worker", SLOTS, WORKERS) as stack:
        asyncio.run(_send(stack.settings.url, [Chat(number / 10, 0, 0, 5) for number in range(WARM_UP)]))
        before, began = stack.read(), time.perf_counter()
        timings = asyncio.run(_send(stack.settings.url, chats))
        used, took_s = stack.read().since(before), time.perf_counter() - began
        waits = _waits(stack)
    simulated = Installation(replace(plan, seconds=took_s), costs).run(chats)
    _print(waits, timings, used, took_s, simulated)


async def _send(url: str, chats: Sequence[Chat]) -> Sequence[Timing]:
    began = time.perf_counter()

    async def send(number: int, chat: Chat) -> Timing:
        await asyncio.sleep(chat.at - (time.perf_counter() - began))
        return await stream_chat(url, "scripted", f"Tell story {number}.", chat.tokens)

    return await asyncio.gather(*(send(number, chat) for number, chat in enumerate(chats)))


def _waits(stack: Stack) -> Sequence[float]:
    """Return how long each chat has waited, by the times of its events."""
    reader = LedgerReader(stack.store)
    newest_first = reader.page(limit=10**6)[:-WARM_UP]
    return [job.started_at - job.created_at for job in newest_first if job.started_at is not None]


def _print(
    waits: Sequence[float], timings: Sequence[Timing], used: Reading, took_s: float, simulated: Figures
) -> None:
    second = used.per_second(took_s)
    share = sum(timing.tokens for timing in timings) * STEP_S / took_s / WORKERS / SLOTS
    firsts = [timing.first_s for timing in timings]
    rows = [
        ("queue wait, mean (ms)", 1000 * fmean(waits), 1000 * fmean(simulated.waits)),
        *_pairs("queue wait", waits, simulated.waits),
        *_pairs("first token", firsts, simulated.firsts),
        ("chats/s", len(timings) / took_s, len(simulated.stays) / took_s),
        ("share of the slots", share, simulated.busy_slots),
        ("events/s", second.events, simulated.logged / took_s),
        ("share of Redis' thread", second.cpu_s, simulated.rate("redis_s")),
        ("round trips to Redis/s", second.round_trips, simulated.rate("round_trips")),
    ]
    print(f"{len(timings)} chats on {WORKERS} workers of {SLOTS} slots in {took_s:.0f} s")
    print(f"{'':>32} {'real run':>12} {'simulation':>12} {'ratio':>8}")
    for name, real, computed in rows:
        print(f"{name:>32} {real:>12.4g} {computed:>12.4g} {computed / real:>8.2f}")


def _pairs(
    name: str, real: Sequence[float], simulated: Sequence[float]
) -> Iterator[tuple[str, float, float]]:
    titles = (f"{name}, median (ms)", f"{name}, 99th percentile (ms)")
    for title, found, computed in zip(titles, pair(real), pair(simulated), strict=True):
        yield title, 1000 * found, 1000 * computed
