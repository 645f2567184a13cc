"""What one API process holds: requests and chats a second with an engine that does nothing, and open streams.

    python -m bench.web [--seconds 5] [--at-once 32] [--streams 2000]

Beside it, in the same run, what Celery's own `apply_async` does in a loop with nothing around it: a submit
cannot be faster. Clients, API, Redis and worker share the machine. `--streams` jobs wait, each followed by a
client of its own; then all are canceled, and every client must have heard of its job's end.
"""

import argparse
import asyncio
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench.processes import process, scripted_argv, scripted_settings
from tests.support.stack import eventually
from webapi.http import open_files
from webapi.local.commands import web_argv
from worker.jobs.broker import app as celery
from worker.jobs.settings import set_env

Json = dict[str, Any]
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


class Connection:
    """One kept-alive connection of one client."""

    def __init__(self, url: str) -> None:
        self.http = http.client.HTTPConnection(urlsplit(url).netloc)

    def ask(self, method: str, path: str, body: Json | None = None) -> bytes:
        headers = {"Content-Type": "application/json"}
        self.http.request(method, path, json.dumps(body) if body else None, headers)
        response = self.http.getresponse()
        answer = response.read()
        assert response.status < 300, answer
        return answer

    def submit(self) -> Json:
        return dict(json.loads(self.ask("POST", "/v1/jobs/chat", CHAT)))

    def chat(self) -> None:
        """Submit, and follow to the end."""
        events = self.ask("GET", self.submit()["links"]["events"])
        assert b"event: succeeded" in events, events


def per_second(seconds: float, at_once: int, url: str, do: Callable[[Connection], object]) -> float:
    """How often a second `do` gets done by so many clients."""
    end = time.perf_counter() + seconds

    def client(_: int) -> int:
        connection, count = Connection(url), 0
        while time.perf_counter() < end:
            do(connection)
            count += 1
        return count

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        done = sum(pool.map(client, range(at_once)))
    return done / (time.perf_counter() - began)


def apply_async_rate(seconds: float) -> float:
    """Celery alone: one thread that sends."""
    end, began, count = time.perf_counter() + seconds, time.perf_counter(), 0
    while time.perf_counter() < end:
        celery.send_task("nothing", args=[uuid.uuid4().hex], queue="bench.nobody")
        count += 1
    return count / (time.perf_counter() - began)


async def open_streams(url: str, jobs: list[Json], cancel: Callable[[], None]) -> tuple[float, float]:
    """Seconds until all streams have their first event; from the cancels until all have heard the last."""
    where = urlsplit(url)
    open_now = asyncio.Barrier(len(jobs) + 1)

    async def follow(job: Json) -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(f"GET {job['links']['events']} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        await reader.readuntil(b"event: queued")
        await open_now.wait()
        await reader.readuntil(b"event: canceled")
        writer.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:  # one that fails ends all: they would wait for it
        for job in jobs:
            group.create_task(follow(job))
        await open_now.wait()
        opened = time.perf_counter()
        group.create_task(asyncio.to_thread(cancel))
    return opened - began, time.perf_counter() - opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--streams", type=int, default=2000)
    args = parser.parse_args()
    open_files.raise_limit(args.streams)
    with ExitStack() as stack:
        settings = stack.enter_context(scripted_settings(slots=256, max_waiting=1_000_000))
        set_env(**settings.to_env())  # for `apply_async` in this process
        api = stack.enter_context(process(web_argv(settings), settings, settings.home_dir / "web.log"))
        argv = scripted_argv("bench.noop_worker", settings)
        with process(argv, settings, settings.home_dir / "chat.log"):
            connection = Connection(settings.url)
            eventually(lambda: b'"ready"' in ask_workers(connection), "a ready worker")
            measure_requests(settings.url, args.seconds, args.at_once, connection)
        measure_streams(settings.url, args.streams, api)


def ask_workers(connection: Connection) -> bytes:
    try:
        return connection.ask("GET", "/v1/workers")
    except OSError:
        connection.http.close()
        return b""


def measure_requests(url: str, seconds: float, at_once: int, connection: Connection) -> None:
    job = connection.submit()["links"]["self"]
    rows: dict[str, Callable[[], float]] = {
        "apply_async alone, one thread": lambda: apply_async_rate(seconds),
        "GET /livez": lambda: per_second(seconds, at_once, url, lambda c: c.ask("GET", "/livez")),
        "GET /v1/jobs/{id}": lambda: per_second(seconds, at_once, url, lambda c: c.ask("GET", job)),
        "POST /v1/jobs/chat": lambda: per_second(seconds, at_once, url, Connection.submit),
        "POST, then its events to the end": lambda: per_second(seconds, at_once, url, Connection.chat),
    }
    print(f"{at_once} clients, one API process, an engine that does nothing")
    for name, row in rows.items():
        print(f"{name:>34} {row():8.0f} a second", flush=True)
        eventually(lambda: idle(connection), "the end of all jobs", 600)


def idle(connection: Connection) -> bool:
    queues = json.loads(connection.ask("GET", "/v1/queues"))["queues"]
    return not any(queue["waiting"] + queue["running"] for queue in queues)


def measure_streams(url: str, count: int, api: psutil.Process) -> None:
    def rss() -> int:
        return sum(child.memory_info().rss for child in api.children())

    with ThreadPoolExecutor(8) as pool:
        connections = threading.local()

        def mine() -> Connection:
            if not hasattr(connections, "one"):
                connections.one = Connection(url)
            return connections.one  # type: ignore[no-any-return]

        jobs = list(pool.map(lambda _: mine().submit(), range(count)))

        def cancel() -> None:
            list(pool.map(lambda job: mine().ask("POST", job["links"]["cancel"]), jobs))

        before = rss()
        opened, ended = asyncio.run(open_streams(url, jobs, cancel))
        grown = (rss() - before) / count / 1024
    print(f"{count} streams open after {opened:.1f} s, {grown:.0f} KiB each in the API;")
    print(f"{count} cancels, and every stream had its end, in {ended:.1f} s")


if __name__ == "__main__":
    main()
