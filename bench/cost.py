"""What the stack takes of the CPU for a chat and for a token, with an engine that takes none.

    python -m bench.cost [--at-once 1 8 64 256] [--tokens 128] [--chats 4] [--web-processes 1]

Clients stream from the OpenAI-compatible route, each one chat after another. The engine gives every chat a
token each step, at a fast GPU's pace. The table has tokens/s and their part of what the engine would give,
the median time to first token, chunks a chat, and the CPU time (user and system, in ms) that a chat took of
API, worker and Redis: with cores enough, the largest of the three is what bounds the chats a second.
"""

import argparse
import asyncio
import statistics
from collections.abc import Awaitable
from contextlib import ExitStack
from itertools import chain

import psutil

from bench.processes import process, scripted_argv, scripted_settings
from bench.steady_worker import STEP_S
from bench.streams import Timing, in_turns, median_ms, stream, tokens_a_second
from bench.web import Connection, ask_workers
from tests.support.stack import eventually
from webapi.local.commands import web_argv


def cpu_s(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """User and system time so far, children included."""
    return {
        name: sum(sum(one.cpu_times()[:2]) for one in [top, *top.children(recursive=True)])
        for name, top in processes.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--chats", type=int, default=4, help="of each client, behind a first, untimed one")
    parser.add_argument("--web-processes", type=int, default=1)
    args = parser.parse_args()
    with ExitStack() as stack:
        slots, web = max(args.at_once), args.web_processes
        settings = stack.enter_context(scripted_settings(slots=slots, web_processes=web))
        root = settings.home_dir
        api = stack.enter_context(process(web_argv(settings), settings, root / "web.log"))
        argv = scripted_argv("bench.steady_worker", settings)
        worker = stack.enter_context(process(argv, settings, root / "chat.log"))
        connection = Connection(settings.url)
        eventually(lambda: b'"ready"' in ask_workers(connection), "a ready worker")
        redis = next(p for p in psutil.Process().children() if "valkey" in p.name())
        processes = {"API": api, "worker": worker, "Redis": redis}

        def one(number: int) -> Awaitable[Timing]:
            return stream(settings.url, "scripted", f"Tell story {number}.", args.tokens)

        title = "".join(f" {name:>8}" for name in processes)
        print(
            f"{'at once':>8} {'tokens/s':>9} {'of engine':>9} {'first token':>12} {'chunks':>7} CPU:{title}"
        )
        for count in args.at_once:
            before = cpu_s(processes)
            clients = asyncio.run(in_turns(count, 1 + args.chats, one))
            rate, after, made = tokens_a_second(clients), cpu_s(processes), count * (1 + args.chats)
            cost = "".join(f" {1000 * (after[name] - before[name]) / made:>8.2f}" for name in processes)
            timed = [*chain.from_iterable(timings[1:] for timings in clients)]
            first, chunks = median_ms([t.first_s for t in timed]), statistics.mean(t.chunks for t in timed)
            part = rate * STEP_S / count
            print(
                f"{count:>8} {rate:>9.0f} {part:>9.2f} {first:>9.0f} ms {chunks:>7.0f} {cost:>31}", flush=True
            )


if __name__ == "__main__":
    main()
