"""Several processes of `vllm bench serve`, vLLM's benchmark client, that send chats at the same time."""

import argparse
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count, repeat
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from bench.streams import Timing

__all__ = ["Answer", "Crowd", "Figures", "Load", "busy_time", "figures", "read_report"]

#: Seconds that clients wait for the slowest of them before the first chat.
BARRIER_S = 120.0


class Answer(NamedTuple):
    """The times of one chat, and the seconds between each two chunks of its answer."""

    timing: Timing
    pauses_s: Sequence[float]


@dataclass(frozen=True, slots=True)
class Load:
    """The chats of each client: `waves` times `at_once` chats of random tokens, `at_once` of them at once."""

    at_once: int
    waves: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures that the clients saw together. A pair is the median and the 99th percentile, in ms.

    `between_ms` is about the mean time between two tokens of each chat, and `pauses_ms` about each pause
    between two chunks, which may contain several tokens.
    """

    tokens_s: float
    first_ms: tuple[float, float]
    between_ms: tuple[float, float]
    pauses_ms: tuple[float, float]

    @property
    def pairs_ms(self) -> Sequence[tuple[float, float]]:
        """All pairs."""
        return self.first_ms, self.between_ms, self.pauses_ms


class Crowd:
    """Up to `size` client processes, which load vLLM once. It is a context manager that ends them."""

    def __init__(self, size: int, url: str, tokenizer: Path) -> None:
        self.url, self.tokenizer = url, tokenizer
        self._seeds = count()  # no prompt comes twice, because vLLM caches the prompts that it has seen
        context = get_context("spawn")
        self._manager = context.Manager()
        self._pool = ProcessPoolExecutor(size, context, initializer=_load_vllm)
        self._loaded = self._pool.submit(os.getpid)  # starts all processes

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._manager.shutdown()

    def run_clients(self, number: int, model: str, load: Load) -> list[list[Answer]]:
        """Run so many clients at the same time, and return the answers by client.

        Every chat must have received all its tokens.
        """
        self._loaded.result()
        commands = [self._command(model, load) for _ in range(number)]
        reports = self._pool.map(_run_client, commands, repeat(self._manager.Barrier(number)))
        clients = [read_report(report) for report in reports]
        tokens = [answer.timing.tokens for answers in clients for answer in answers]
        assert tokens == [load.tokens_out] * (number * load.waves * load.at_once), tokens
        return clients

    def _command(self, model: str, load: Load) -> list[str]:
        command = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
        command += ["--base-url", self.url, "--model", model, "--tokenizer", str(self.tokenizer)]
        command += ["--dataset-name", "random", "--seed", str(next(self._seeds)), "--disable-tqdm"]
        command += ["--random-input-len", str(load.tokens_in), "--random-output-len", str(load.tokens_out)]
        command += ["--ignore-eos", "--temperature", "0", "--ready-check-timeout-sec", "0", "--save-detailed"]
        command += ["--num-prompts", str(load.waves * load.at_once), "--max-concurrency", str(load.at_once)]
        return command


def _load_vllm() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):  # lines that vLLM prints and logs would stand between the rows of the table
        os.dup2(nowhere, output)
    import vllm.benchmarks.serve  # noqa: F401


def _run_client(command: Sequence[str], barrier: Barrier) -> Mapping[str, Any]:
    """Do what `vllm bench serve` does with these arguments, and return its report.

    The first chat waits at the barrier until all clients have made their prompts.
    """
    from vllm.benchmarks import serve

    send_chats = serve.benchmark

    async def wait_and_send_chats(**options: object) -> object:
        barrier.wait(BARRIER_S)
        return await send_chats(**options)

    parser = argparse.ArgumentParser()
    serve.add_cli_args(parser)
    with patch.object(serve, "benchmark", wait_and_send_chats):
        report: dict[str, Any] = serve.main(parser.parse_args(command))
    return report


def read_report(report: Mapping[str, Any]) -> list[Answer]:
    """Return the answers in a detailed report. Raises `RuntimeError` if a chat has failed."""
    if errors := [error for error in report["errors"] if error]:
        raise RuntimeError(f"{len(errors)} chats failed, one of them with: {errors[0]}")
    rows = zip(*(report[name] for name in ("start_times", "ttfts", "itls", "output_lens")), strict=True)
    return [
        Answer(Timing(began, began + first_s, began + first_s + sum(pauses), tokens, 1 + len(pauses)), pauses)
        for began, first_s, pauses, tokens in rows
    ]


def busy_time(clients: Sequence[Sequence[Answer]], at_once: int) -> tuple[float, float]:
    """Return the times between which every client has `at_once` chats under way, without its first ones.

    The first chats do not count, because they all begin at the same moment. Raises `RuntimeError` if there
    is no such time.
    """
    began = [sorted(answer.timing.began for answer in answers) for answers in clients]
    since, until = max(times[at_once] for times in began), min(times[-1] for times in began)
    if since >= until:
        raise RuntimeError("the clients were not busy at the same time: take more waves")
    return since, until


def figures(clients: Sequence[Sequence[Answer]], since: float, until: float) -> Figures:
    """Return the figures of this time. The percentiles are those of the chats that began in it."""
    answers = [answer for client in clients for answer in client]
    begun = [answer for answer in answers if since <= answer.timing.began <= until]
    return Figures(
        sum(answer.timing.tokens_within(since, until) for answer in answers) / (until - since),
        _percentiles_ms([answer.timing.first_s for answer in begun]),
        _percentiles_ms([answer.timing.between_s for answer in begun]),
        _percentiles_ms([pause for answer in begun for pause in answer.pauses_s]),
    )


def _percentiles_ms(values_s: Sequence[float]) -> tuple[float, float]:
    median, high = np.percentile(values_s or [0.0], [50, 99])
    return 1000 * float(median), 1000 * float(high)
