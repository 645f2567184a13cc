"""Measure what `stoker up` costs without jobs, and how long it takes to start.

    python -m bench.idle [--seconds 60] [--starts 3]

First, `stoker up` and the bare engines take turns to start. Bare means: the engine of each kind loads and
warms up in a process of its own, side by side as in the stack, without Celery, Redis and the API. The ratio
of the medians is what the stack adds.

Then the last stack is idle for so many seconds. The tables show the commands that its Redis executes, with
those that scripts call, and the CPU time of each process. The models are those in `STOKER_HOME`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

import psutil
import redis

from worker.jobs.settings import Settings

__all__: list[str] = []

KINDS = ("chat", "video")


@contextmanager
def started(argv: Sequence[str], home: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run the command with this home, and interrupt it at the end of the block."""
    env = os.environ | {"STOKER_HOME": str(home)}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(argv, env=env, text=True, **streams) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.stdin.close()
            process.send_signal(2)
            process.stdout.read()


def wait_for(line: str, output: IO[str]) -> None:
    """Read the output up to a line that begins so. Raises SystemExit if it ends before."""
    if not any(each.startswith(line) for each in output):
        raise SystemExit(f"a process has ended without the line {line!r}")


def bare_start_s(home: Path) -> float:
    """Return the seconds until the bare engines of all kinds are warm."""
    began = time.perf_counter()
    with ExitStack() as stack:
        argv = [sys.executable, "-m", "bench.bare_load"]
        engines = [stack.enter_context(started([*argv, kind], home)) for kind in KINDS]
        for engine in engines:
            wait_for("warm", cast(IO[str], engine.stdout))
        return time.perf_counter() - began


@contextmanager
def running_stack(home: Path) -> Iterator[float]:
    """Run `stoker up`, and yield the seconds until it was ready."""
    began = time.perf_counter()
    with started(["stoker", "up", "--port", "0"], home) as up:
        wait_for("ready", cast(IO[str], up.stdout))
        yield time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Sample:
    """The commands that Redis has executed, the requests that it has read, and CPU seconds."""

    at: float
    commands: Mapping[str, int]
    requests: int
    cpu_s: Mapping[str, float]


def take_sample(client: "redis.Redis", up: psutil.Process) -> Sample:
    """Take a sample of the stack of this `stoker up`."""
    stats = client.info("commandstats")
    return Sample(
        time.perf_counter(),
        {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()},
        client.info("stats")["total_reads_processed"],
        {name_of(each): sum(each.cpu_times()[:2]) for each in [up, *up.children(recursive=True)]},
    )


def name_of(process: psutil.Process) -> str:
    """Return what the process is, from its command line, and its id."""
    words = " ".join(process.cmdline())
    names = {
        "chat": "-n chat",
        "video": "-n video",
        "webhooks": "-n webhooks",
        "web": "gunicorn",
        "reaper": "reaper",
    }
    names |= {"clip sandbox": "clip_tasks", "stoker up": "stoker up"}
    known = (name for name, part in names.items() if part in words)
    return f"{next(known, process.name())} ({process.pid})"


def print_idle(home: Path, seconds: float) -> None:
    """Print the commands and the CPU time of the stack in this home while it is idle for so long."""
    state = json.loads((home / "up.json").read_text("utf-8"))
    with redis.Redis.from_url(state["redis_url"], decode_responses=True) as client:
        up = psutil.Process(state["pid"])
        before = take_sample(client, up)
        time.sleep(seconds)
        after = take_sample(client, up)
    passed_s = after.at - before.at
    commands = {name: after.commands[name] - before.commands.get(name, 0) for name in after.commands}
    commands["info"] -= 2  # the sample's own
    rates = {name: count / passed_s for name, count in commands.items()}
    requests = after.requests - before.requests - 2
    print(f"\n{sum(rates.values()):.1f} commands/s, in {requests / passed_s:.1f} requests/s")
    for name, rate in sorted(rates.items(), key=lambda each: -each[1]):
        if rate >= 0.005:
            print(f"{name:>22} {rate:>8.2f}")
    cpu = {name: 100 * (used - before.cpu_s.get(name, 0)) / passed_s for name, used in after.cpu_s.items()}
    print(f"\n{sum(cpu.values()):.2f} % of a core")
    for name, percent in cpu.items():
        print(f"{name:>22} {percent:>8.2f}")


def main() -> None:
    """Print the starts and the idle stack."""
    parser = argparse.ArgumentParser(description="Measure an idle stack, and its start.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--starts", type=int, default=3)
    args = parser.parse_args()
    bare, stack = list[float](), list[float]()
    with TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models").symlink_to(Settings.from_env().models_dir)
        for round_number in range(args.starts):
            bare.append(bare_start_s(home))
            with running_stack(home) as ready_s:
                stack.append(ready_s)
                print(f"bare engines {bare[-1]:.1f} s, stoker up {ready_s:.1f} s", flush=True)
                if round_number == args.starts - 1:
                    print_idle(home, args.seconds)
    ratio = statistics.median(stack) / statistics.median(bare)
    print(f"\nstart: {statistics.median(stack):.1f} s to {statistics.median(bare):.1f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
