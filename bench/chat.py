"""Tokens a second through the whole stack, beside the bare engine and plain `generate`, in one run.

    python -m bench.chat [--at-once 1 8 16] [--tokens 64] [--rounds 3] [--device cpu]

Bare engine: the same TransformersEngine in this process, nothing around it. Stack: SSE clients → API → Redis
→ Celery → lane → engine, from a `stoker up` that the benchmark starts. The two take turns, so that whatever
else the machine does falls on both. Greedy, the same prompts; every answer runs to its last token.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import torch

from webapi.client import Client
from webapi.demo import running_stack
from worker.chat.engine import ChatRequest, Delta
from worker.chat.loading import load_model
from worker.chat.transformers_engine import TransformersEngine
from worker.jobs.settings import Settings
from worker.models import resolve

TOPICS = ("a dragon", "a river", "two brothers", "the sea", "a lost key", "winter", "a train", "a garden")


def prompts(count: int) -> list[str]:
    return [f"Write a very long story about {TOPICS[n % 8]}, part {n}." for n in range(count)]


class BareEngine:
    """The engine with nothing around it."""

    def __init__(self, settings: Settings, device: str) -> None:
        path = resolve(settings.models_dir, settings.chat_model)
        self.engine = TransformersEngine(path, device, settings.slots, settings.context_length)
        self.tokens = 0
        self.left = 0
        self.over = threading.Event()
        self.engine.start(self.on_step, lambda error: None)

    def on_step(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            self.tokens += len(delta.token_ids)
            self.left -= delta.finish_reason is not None
        if self.left == 0:
            self.over.set()

    def run(self, texts: Sequence[str], tokens: int) -> int:
        self.tokens, self.left = 0, len(texts)
        self.over.clear()
        for n, text in enumerate(texts):
            prompt = self.engine.prompt_template.encode([{"role": "user", "content": text}])
            self.engine.submit(ChatRequest(str(n), prompt, tokens, temperature=0))
        self.over.wait()
        return self.tokens


class Generate:
    """transformers' own `generate` on one static, left-padded batch."""

    def __init__(self, settings: Settings, device: str) -> None:
        self.device = device
        self.loaded = load_model(resolve(settings.models_dir, settings.chat_model), device)

    def run(self, texts: Sequence[str], tokens: int) -> int:
        encode = self.loaded.prompt_template.encode
        rows = [encode([{"role": "user", "content": text}]) for text in texts]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=self.device)
        out = self.loaded.model.generate(  # type: ignore[operator]
            ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
        return int((out[:, width:] != 0).sum())


class Stack:
    """One SSE client a chat, made beforehand: a TLS context takes longer than a chat's first token."""

    def __init__(self, url: str, at_once: int) -> None:
        self.clients = [Client(url) for _ in range(at_once)]
        self.first_s: list[float] = []

    def run(self, texts: Sequence[str], tokens: int) -> int:
        with ThreadPoolExecutor(len(texts)) as pool:
            return sum(pool.map(self.one, self.clients, texts, repeat(tokens)))

    def one(self, client: Client, text: str, tokens: int) -> int:
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": tokens}
        began = time.perf_counter()
        first = None
        for event in client.events(client.submit_chat(body)["id"]):
            if event["type"] == "token":
                first = first or time.perf_counter() - began
        self.first_s.append(first or 0.0)
        return int(event["usage"]["completion_tokens"])


def rate(run: Callable[[Sequence[str], int], int], texts: Sequence[str], tokens: int) -> float:
    began = time.perf_counter()
    produced = run(texts, tokens)
    return produced / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    devices = "auto" if args.device == "cuda" else "cpu"
    settings = Settings.from_env().updated(slots=max(args.at_once), devices=devices)
    with running_stack(settings, settings.root / "bench.log") as client:
        bare, stack = BareEngine(settings, args.device), Stack(client.url, settings.slots)
        ways = {"generate": Generate(settings, args.device).run, "bare engine": bare.run, "stack": stack.run}
        print(f"{'at once':>8} {'generate':>9} {'bare engine':>12} {'stack':>7}  stack/bare  first token")
        for count in args.at_once:
            rates: dict[str, list[float]] = {name: [] for name in ways}
            stack.first_s.clear()
            for _ in range(args.rounds):
                for name, run in ways.items():
                    rates[name].append(rate(run, prompts(count), args.tokens))
            generate, engine, whole = (statistics.median(rates[name]) for name in ways)
            first = statistics.median(stack.first_s)
            figures = f"{count:>8} {generate:>9.1f} {engine:>12.1f} {whole:>7.1f}"
            print(f"{figures}  {whole / engine:>10.2f}  {first:>9.2f} s", flush=True)
        bare.engine.stop()


if __name__ == "__main__":
    main()
