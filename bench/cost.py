"""What the stack takes of the CPU for a chat and for a token, with an engine that takes none.

    python -m bench.cost [--at-once 1 8 64 256] [--tokens 128] [--chats 4] [--web-processes 1]

Clients stream from the OpenAI-compatible route, each one chat after another. The engine gives every chat a
token each step, at a fast GPU's pace. The table has tokens/s and their part of what the engine would give,
the median time to first token, chunks a chat, and the CPU time (user and system, in ms) that a chat took of
API, worker and Redis: with cores enough, the largest of the three is what bounds the chats a second.
"""

import argparse
import asyncio
import json
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from bench.processes import process, scripted_argv, scripted_settings
from bench.steady_worker import STEP_S
from bench.web import Connection, ask_workers
from tests.integration.stack import eventually
from webapi.local import web_argv


@dataclass
class Seen:
    """What the clients saw."""

    tokens: int = 0
    chunks: int = 0
    first_s: list[float] = field(default_factory=list)


async def chat(url: str, tokens: int, seen: Seen) -> None:
    """One chat on a connection of its own, to its end."""
    where = urlsplit(url)
    message = {"role": "user", "content": "Tell me a story."}
    body = json.dumps(
        {"model": "scripted", "messages": [message], "max_tokens": tokens, "stream": True}
        | {"ignore_eos": True, "stream_options": {"include_usage": True}}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    first = True
    async for line in reader:
        if not line.startswith(b"data: {"):
            continue
        if first:
            seen.first_s.append(time.perf_counter() - began)
            first = False
        seen.chunks += 1
        if b'"usage":{' in line:
            seen.tokens += json.loads(line[6:])["usage"]["completion_tokens"]
    writer.close()


async def load(url: str, at_once: int, chats: int, tokens: int) -> Seen:
    """So many clients, each so many chats."""
    seen = Seen()

    async def client() -> None:
        for _ in range(chats):
            await chat(url, tokens, seen)

    await asyncio.gather(*[client() for _ in range(at_once)])
    return seen


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
    parser.add_argument("--chats", type=int, default=4, help="of each client")
    parser.add_argument("--web-processes", type=int, default=1)
    args = parser.parse_args()
    with ExitStack() as stack:
        slots, web = max(args.at_once), args.web_processes
        settings = stack.enter_context(scripted_settings(slots=slots, web_processes=web))
        root = settings.root
        api = stack.enter_context(process(web_argv(settings), settings, root / "web.log"))
        argv = scripted_argv("bench.steady_worker", settings)
        worker = stack.enter_context(process(argv, settings, root / "chat.log"))
        connection = Connection(settings.url)
        eventually(lambda: b'"ready"' in ask_workers(connection), "a ready worker")
        redis = next(p for p in psutil.Process().children() if "valkey" in p.name())
        processes = {"API": api, "worker": worker, "Redis": redis}
        title = "".join(f" {name:>8}" for name in processes)
        print(
            f"{'at once':>8} {'tokens/s':>9} {'of engine':>9} {'first token':>12} {'chunks':>7} CPU:{title}"
        )
        for count in args.at_once:
            asyncio.run(load(settings.url, count, 1, 8))
            before, began = cpu_s(processes), time.perf_counter()
            seen = asyncio.run(load(settings.url, count, args.chats, args.tokens))
            took, after = time.perf_counter() - began, cpu_s(processes)
            rate, chats = seen.tokens / took, count * args.chats
            cost = "".join(f" {1000 * (after[name] - before[name]) / chats:>8.2f}" for name in processes)
            first = 1000 * statistics.median(seen.first_s)
            part, chunks = rate * STEP_S / count, seen.chunks / chats
            print(
                f"{count:>8} {rate:>9.0f} {part:>9.2f} {first:>9.0f} ms {chunks:>7.0f} {cost:>31}", flush=True
            )


if __name__ == "__main__":
    main()
