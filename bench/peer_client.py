"""vLLM's own client `vllm bench serve`, in a process that imports vLLM once and measures often."""

import argparse
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from bench.chat import BareEngine
from bench.crowd import Figures
from worker.jobs.settings import Settings

__all__ = ["Load", "PeerClient", "read_report"]

#: Number of chats if there is one client, and chats per client if there are many.
CHATS_OF_ONE, CHATS_PER_CLIENT = 16, 4
#: The name of the API with chats over HTTP in vLLM's table of APIs.
BACKEND = "openai-chat"

#: The engine of this process, if it has one.
_engine: BareEngine | None = None


class Load(NamedTuple):
    """A number of clients, each with one chat after another, and the sizes of a chat in tokens.

    Chats of another seed have other prompts.
    """

    at_once: int
    tokens_in: int
    tokens_out: int
    seed: int

    @property
    def chats(self) -> int:
        """The number of chats."""
        return CHATS_OF_ONE if self.at_once == 1 else CHATS_PER_CLIENT * self.at_once


class PeerClient:
    """A process with vLLM's client, and optionally with an engine of its own instead of a server.

    It is a context manager that ends the process. The process writes its output to `log`.
    """

    def __init__(self, log: Path, engine: Settings | None = None) -> None:
        context = get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(log, engine))

    def __enter__(self) -> "PeerClient":
        self._pool.submit(os.getpid).result()  # the process has imported vLLM and started its engine
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenProcessPool):
            self._pool.submit(_stop).result()  # otherwise the engine's thread would keep the process alive
        self._pool.shutdown()

    def measure(self, url: str, model: str, tokenizer: Path, load: Load) -> Figures:
        """Run the chats of the load, and return their figures. Every chat must receive all its tokens."""
        command = ["--backend", BACKEND, "--endpoint", "/v1/chat/completions"]
        command += ["--base-url", url, "--model", model, "--tokenizer", str(tokenizer)]
        command += ["--dataset-name", "random", "--seed", str(load.seed), "--disable-tqdm"]
        command += ["--random-input-len", str(load.tokens_in), "--random-output-len", str(load.tokens_out)]
        command += ["--ignore-eos", "--temperature", "0", "--num-warmups", str(max(4, load.at_once))]
        command += ["--num-prompts", str(load.chats), "--max-concurrency", str(load.at_once)]
        command += ["--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "99"]
        return read_report(self._pool.submit(_bench_serve, command).result(), load)


def read_report(report: Mapping[str, Any], load: Load) -> Figures:
    """Return the figures of a report. Raises `RuntimeError` if a chat has failed or lacks tokens."""
    expected = load.chats * load.tokens_out
    if report["total_output_tokens"] != expected:
        raise RuntimeError(f"the clients got {report['total_output_tokens']} tokens instead of {expected}")
    pairs = [(report[f"median_{name}_ms"], report[f"p99_{name}_ms"]) for name in ("ttft", "tpot", "itl")]
    return Figures(report["output_throughput"], *pairs)


def _start(log: Path, engine: Settings | None) -> None:
    """Import vLLM, start the engine if there are settings for one, and write all output to the log."""
    global _engine
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    if engine:
        _engine = BareEngine(engine)
    import vllm.benchmarks.serve  # noqa: F401


def _stop() -> None:
    if _engine:
        _engine.engine.stop()


def _bench_serve(command: Sequence[str]) -> dict[str, Any]:
    """Do what `vllm bench serve` does with these arguments, and return its report."""
    from vllm.benchmarks import serve

    parser = argparse.ArgumentParser()
    serve.add_cli_args(parser)
    with patch.dict(serve.ASYNC_REQUEST_FUNCS, {BACKEND: _run_in_engine} if _engine else {}):
        report: dict[str, Any] = serve.main(parser.parse_args(command))
    return report


async def _run_in_engine(request_func_input: Any, session: object, pbar: object = None) -> object:
    """Run a chat of vLLM's client in the engine of this process instead of a server."""
    from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput

    assert _engine
    timing, pauses = await _engine.run_prompt(request_func_input.prompt, request_func_input.output_len)
    return RequestFuncOutput(
        success=True,
        latency=timing.last - timing.began,
        output_tokens=timing.tokens,
        ttft=timing.first_s,
        itl=list(pauses),
        prompt_len=request_func_input.prompt_len,
        start_time=timing.began,
    )
