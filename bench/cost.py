"""Measure the CPU time that the stack takes per chat, with an engine that takes none.

    python -m bench.cost [--at-once 1 8 64 256] [--tokens 128] [--chats 4] [--web-processes 1]

Clients stream from the OpenAI-compatible route, each of them one chat after another. The engine gives every
chat one token per step, at the pace of a fast GPU. The columns of the table are:

- tokens/s, and the share of the rate that the engine alone would have;
- the median time to the first token;
- chunks per chat;
- CPU time per chat (user and system, in ms) of the API, the worker and Redis. With enough cores, the largest
  of the three limits the number of chats per second.
"""

import argparse
import asyncio
import statistics
from collections.abc import Awaitable
from contextlib import ExitStack
from itertools import chain

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 64, 256], help="numbers of clients")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per chat")
    parser.add_argument("--chats", type=int, default=4, help="chats per client, after one that is not timed")
    parser.add_argument("--web-processes", type=int, default=1)
    args = parser.parse_args()
    with ExitStack() as stack:
        slots, web = max(args.at_once), args.web_processes
        settings = stack.enter_context(scripted_settings(slots=slots, web_processes=web))
        home = settings.home_dir
        api = stack.enter_context(running_process(web_argv(settings), settings, home / "web.log"))
        argv = scripted_argv("bench.steady_worker", settings)
        worker = stack.enter_context(running_process(argv, settings, home / "chat.log"))
        connection = Connection(settings.url)
        eventually(lambda: b'"ready"' in get_workers(connection), "a ready worker")
        redis = next(p for p in psutil.Process().children() if "valkey" in p.name())
        processes = {"API": api, "worker": worker, "Redis": redis}
        title = "".join(f" {name:>8}" for name in processes)
        print(
            f"{'at once':>8} {'tokens/s':>9} {'of engine':>9} {'first token':>12} {'chunks':>7} CPU:{title}"
        )
        for at_once in args.at_once:
            measure(settings.url, at_once, args.tokens, args.chats, processes)


def measure(url: str, at_once: int, tokens: int, chats: int, processes: dict[str, psutil.Process]) -> None:
    """Run `at_once` clients, and print their row of the table."""

    def run_chat(number: int) -> Awaitable[Timing]:
        return stream_chat(url, "scripted", f"Tell story {number}.", tokens)

    before = cpu_s(processes)
    clients = asyncio.run(run_clients(at_once, 1 + chats, run_chat))
    rate, after, total = tokens_per_second(clients), cpu_s(processes), at_once * (1 + chats)
    cost = "".join(f" {1000 * (after[name] - before[name]) / total:>8.2f}" for name in processes)
    timed = [*chain.from_iterable(timings[1:] for timings in clients)]
    first, chunks = median_ms([t.first_s for t in timed]), statistics.mean(t.chunks for t in timed)
    share = rate * STEP_S / at_once
    print(f"{at_once:>8} {rate:>9.0f} {share:>9.2f} {first:>9.0f} ms {chunks:>7.0f} {cost:>31}", flush=True)


if __name__ == "__main__":
    main()
