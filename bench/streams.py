"""Streaming clients that cost little CPU: one thread runs many chats at once, and times each of them."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from urllib.parse import urlsplit

__all__ = ["Timing", "median_ms", "run_clients", "stream_chat", "tokens_per_second"]


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one chat, in seconds of this process' clock, and its numbers of tokens and chunks."""

    began: float
    #: Time of the first token.
    first: float
    #: Time of the last token.
    last: float
    tokens: int
    chunks: int

    @property
    def first_s(self) -> float:
        """Seconds to the first token."""
        return self.first - self.began

    @property
    def between_s(self) -> float:
        """Mean seconds between two tokens."""
        return (self.last - self.first) / max(1, self.tokens - 1)

    def tokens_within(self, since: float, until: float) -> float:
        """Estimate how many tokens came between `since` and `until`.

        Tokens after the first count as evenly spread between the first and the last.
        """
        share = max(0.0, min(self.last, until) - max(self.first, since)) / max(1e-9, self.last - self.first)
        return (since <= self.first <= until) + (self.tokens - 1) * share


async def stream_chat(url: str, model: str, content: str, tokens: int, key: str | None = None) -> Timing:
    """Stream a greedy chat of `tokens` tokens from the OpenAI-compatible route, on a new connection.

    Raises `RuntimeError` if the stream ends without the chat's usage.
    """
    address = urlsplit(url)
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens}
        | {"temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
    head += "Content-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    times, usage = [], {}
    async for line in reader:
        if line.startswith(b'data: {"') and b'"usage":{' in line:
            usage = json.loads(line[6:])["usage"]
        elif line.startswith(b"data: {"):
            times.append(time.perf_counter())
    writer.close()
    if not usage:
        raise RuntimeError("the stream of a chat ended early")
    return Timing(began, times[0], times[-1], usage["completion_tokens"], len(times))


async def run_clients(
    count: int, chats: int, run_chat: Callable[[int], Awaitable[Timing]], first: int = 0
) -> list[list[Timing]]:
    """Run `count` clients at once, each with `chats` chats one after another; return the timings by client.

    `run_chat` gets the number of a chat. Every chat has a number of its own, from `first` on.
    """

    async def run_client(start: int) -> list[Timing]:
        return [await run_chat(number) for number in range(start, start + chats)]

    return await asyncio.gather(*[run_client(first + number * chats) for number in range(count)])


def tokens_per_second(clients: Sequence[Sequence[Timing]]) -> float:
    """Return the rate of all clients together. Each client needs at least two chats.

    It is measured while all clients are busy: from the moment when every client has finished its first chat
    to the moment when one client has finished its last. The first chats do not count, because they all begin
    at the same moment, which does not happen in practice.
    """
    since, until = max(chats[0].last for chats in clients), min(chats[-1].last for chats in clients)
    tokens = sum(timing.tokens_within(since, until) for timing in chain.from_iterable(clients))
    return tokens / (until - since)


def median_ms(values: Sequence[float]) -> float:
    """Return the median of these seconds, in milliseconds."""
    return 1000 * statistics.median(values)
