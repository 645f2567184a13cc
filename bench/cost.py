"""Measure the CPU time that the stack takes per chat, with an engine that takes none.

    python -m bench.cost [--at-once 1 8 64 256] [--tokens 128] [--chats 4] [--web-processes 1] [--rounds 0]

Clients stream from the OpenAI-compatible route, each of them one chat after another. The engine gives every
chat one token per step, at the pace of a fast GPU. The columns of the table are:

- tokens/s, and the share of the rate that the engine alone would have;
- the median time to the first token, and the part of it that the stack adds to one step of the engine;
- chunks per chat;
- CPU time per chat (user and system, in ms) of the API, the worker and Redis. With enough cores, the largest
  of the three limits the number of chats per second.

With `--rounds`, a second stack takes turns with it, whose worker raises no metrics. The ratio of the two is
the cost of the metrics.
"""

import argparse
import asyncio
import statistics
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import NamedTuple

import psutil

from bench.processes import running_process, scripted_argv, scripted_settings
from bench.steady_worker import STEP_S
from bench.streams import Timing, median_ms, run_clients, stream_chat, tokens_per_second
from bench.web import Connection, get_workers
from tests.support.stack import eventually
from webapi.local.commands import web_argv


def cpu_s(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Return the user and system time of each process so far, with its child processes, in seconds."""
    return {
        name: sum(sum(one.cpu_times()[:2]) for one in [parent, *parent.children(recursive=True)])
        for name, parent in processes.items()
    }


#: The address of a stack's API, and its processes by name.
RunningStack = tuple[str, dict[str, psutil.Process]]


class Cost(NamedTuple):
    """The figures of a row: `cpu_ms` is the CPU time per chat of each process, in ms."""

    rate: float
    first_ms: float
    chunks: float
    cpu_ms: dict[str, float]


@contextmanager
def running_stack(app: str, slots: int, web_processes: int) -> Iterator[RunningStack]:
    """Run a stack with this Celery app of the worker. Yield the API's address and the stack's processes."""
    with ExitStack() as stack:
        settings = stack.enter_context(scripted_settings(slots=slots, web_processes=web_processes))
        redis = next(p for p in reversed(psutil.Process().children()) if "valkey" in p.name())
        home = settings.home_dir
        api = stack.enter_context(running_process(web_argv(settings), settings, home / "web.log"))
        argv = scripted_argv(app, settings)
        worker = stack.enter_context(running_process(argv, settings, home / "chat.log"))
        connection = Connection(settings.url)
        eventually(lambda: b'"ready"' in get_workers(connection), "a ready worker")
        yield settings.url, {"API": api, "worker": worker, "Redis": redis}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 64, 256], help="numbers of clients")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per chat")
    parser.add_argument("--chats", type=int, default=4, help="chats per client, after one that is not timed")
    parser.add_argument("--web-processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=0, help="compare with a worker without metrics")
    args = parser.parse_args()
    slots, web = max(args.at_once), args.web_processes
    with ExitStack() as stack:
        url, processes = stack.enter_context(running_stack("bench.steady_worker", slots, web))
        if args.rounds:
            other = stack.enter_context(running_stack("bench.uncounted_worker", slots, web))
            for at_once in args.at_once:
                compare([(url, processes), other], args.rounds, at_once, args.tokens, args.chats)
            return
        title = "".join(f" {name:>8}" for name in processes)
        print(
            f"{'at once':>8} {'tokens/s':>9} {'of engine':>9} {'first token':>12} {'added':>9}"
            f" {'chunks':>7} CPU:{title}"
        )
        for at_once in args.at_once:
            found = measure(url, at_once, args.tokens, args.chats, processes)
            share = found.rate * STEP_S / at_once
            cpu = "".join(f" {ms:>8.2f}" for ms in found.cpu_ms.values())
            print(
                f"{at_once:>8} {found.rate:>9.0f} {share:>9.2f} {found.first_ms:>9.1f} ms"
                f" {found.first_ms - 1000 * STEP_S:>6.1f} ms {found.chunks:>7.0f} {cpu:>31}",
                flush=True,
            )


def compare(stacks: Sequence[RunningStack], rounds: int, at_once: int, tokens: int, chats: int) -> None:
    """Let the stacks with and without metrics take turns, and print the median CPU times per chat."""
    costs = [
        [measure(url, at_once, tokens, chats, processes).cpu_ms for url, processes in stacks]
        for _ in range(rounds)
    ]
    for name in costs[0][0]:
        counted, bare = (statistics.median(each[place][name] for each in costs) for place in (0, 1))
        print(f"{at_once:>4} at once, {name:>6}: with metrics {counted:.2f} ms, without {bare:.2f} ms")
    sums = [[sum(cost.values()) for cost in each] for each in costs]
    ratio = statistics.median(counted / bare for counted, bare in sums)
    print(f"{at_once:>4} at once, all three: median ratio {ratio:.3f}", flush=True)


def measure(url: str, at_once: int, tokens: int, chats: int, processes: dict[str, psutil.Process]) -> Cost:
    """Run `at_once` clients, and return the figures of their row."""

    def run_chat(number: int) -> Awaitable[Timing]:
        return stream_chat(url, "scripted", f"Tell story {number}.", tokens)

    before = cpu_s(processes)
    clients = asyncio.run(run_clients(at_once, 1 + chats, run_chat))
    after, total = cpu_s(processes), at_once * (1 + chats)
    timed = [*chain.from_iterable(timings[1:] for timings in clients)]
    return Cost(
        tokens_per_second(clients),
        median_ms([t.first_s for t in timed]),
        statistics.mean(t.chunks for t in timed),
        {name: 1000 * (after[name] - before[name]) / total for name in processes},
    )


if __name__ == "__main__":
    main()
