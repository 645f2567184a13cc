"""Streaming clients that cost little: many chats at once from one thread, each timed."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from urllib.parse import urlsplit

__all__ = ["Timing", "in_turns", "median_ms", "stream", "tokens_a_second"]


@dataclass(frozen=True, slots=True)
class Timing:
    """One chat, by this process' clock in seconds: its start, its first and its last token; how many came,
    in how many chunks."""

    began: float
    first: float
    last: float
    tokens: int
    chunks: int

    @property
    def first_s(self) -> float:
        """Time to the first token."""
        return self.first - self.began

    @property
    def between_s(self) -> float:
        """Mean time between two tokens."""
        return (self.last - self.first) / max(1, self.tokens - 1)

    def tokens_within(self, since: float, until: float) -> float:
        """About how many of its tokens came in that time: the first, and the others evenly behind it."""
        part = max(0.0, min(self.last, until) - max(self.first, since)) / max(1e-9, self.last - self.first)
        return (since <= self.first <= until) + (self.tokens - 1) * part


async def stream(url: str, model: str, content: str, tokens: int, key: str | None = None) -> Timing:
    """A greedy chat of so many tokens over the OpenAI-compatible route, on a connection of its own."""
    where = urlsplit(url)
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens}
        | {"temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
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
    return Timing(began, times[0], times[-1], usage["completion_tokens"], len(times))


async def in_turns(
    at_once: int, chats: int, one: Callable[[int], Awaitable[Timing]], first: int = 0
) -> list[list[Timing]]:
    """So many clients' chats, each one's in turn; `one` makes the chat of a number. They begin at `first`."""

    async def client(begin: int) -> list[Timing]:
        return [await one(number) for number in range(begin, begin + chats)]

    return await asyncio.gather(*[client(first + number * chats) for number in range(at_once)])


def tokens_a_second(clients: Sequence[Sequence[Timing]]) -> float:
    """From when all have had their first chat to when one has had its last; two chats each at least.

    All first chats begin at one instant, which clients do not in life, and at the end some are alone.
    """
    since, until = max(chats[0].last for chats in clients), min(chats[-1].last for chats in clients)
    tokens = sum(timing.tokens_within(since, until) for timing in chain.from_iterable(clients))
    return tokens / (until - since)


def median_ms(values: Sequence[float]) -> float:
    """The median of some seconds, in milliseconds."""
    return 1000 * statistics.median(values)
