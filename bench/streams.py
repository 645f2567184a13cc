"""Streaming clients that cost little: many chats at once from one thread, each timed."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Timing", "in_turns", "median_ms", "stream", "tokens_a_second"]


@dataclass(frozen=True, slots=True)
class Timing:
    """One chat: seconds to its first token and from there to its last, its tokens, and their chunks."""

    first_s: float
    rest_s: float
    tokens: int
    chunks: int

    @property
    def between_s(self) -> float:
        """Mean time between two tokens."""
        return self.rest_s / max(1, self.tokens - 1)


async def stream(url: str, model: str, content: str, tokens: int) -> Timing:
    """A greedy chat of so many tokens over the OpenAI-compatible route, on a connection of its own."""
    where = urlsplit(url)
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens}
        | {"temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    times, usage = [], {}
    async for line in reader:
        if line.startswith(b'data: {"') and b'"usage":{' in line:
            usage = json.loads(line[6:])["usage"]
        elif line.startswith(b"data: {"):
            times.append(time.perf_counter())
    writer.close()
    if not usage:
        raise RuntimeError("a chat had no end")
    return Timing(times[0] - began, times[-1] - times[0], usage["completion_tokens"], len(times))


async def in_turns(at_once: int, chats: int, one: Callable[[int], Awaitable[Timing]]) -> list[Timing]:
    """So many clients, each so many chats one after another; `one` makes the chat of this number."""

    async def client(first: int) -> list[Timing]:
        return [await one(number) for number in range(first, first + chats)]

    found = await asyncio.gather(*[client(number * chats) for number in range(at_once)])
    return [timing for timings in found for timing in timings]


def tokens_a_second(timings: Sequence[Timing], took_s: float) -> float:
    """All tokens over all of the time."""
    return sum(timing.tokens for timing in timings) / took_s


def median_ms(values: Sequence[float]) -> float:
    """The median of some seconds, in milliseconds."""
    return 1000 * statistics.median(values)
