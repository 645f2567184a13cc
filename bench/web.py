"""Measure what one API process can hold: requests and chats per second, and open event streams.

    python -m bench.web [--seconds 5] [--at-once 32] [--streams 2000]

The engine of the worker does nothing. The first row is Celery's own `apply_async` in a loop with nothing
around it, in the same run: it shows how busy the machine is. Clients, API, Redis and worker share that.

For the streams, `--streams` jobs wait, and a client of its own follows each of them. Then all jobs are
canceled, and every client must receive the end of its job.
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

from bench.processes import running_process, scripted_argv, scripted_settings
from tests.support.stack import eventually
from webapi.http import open_files
from webapi.local.commands import web_argv
from worker.jobs.broker import app as celery
from worker.jobs.settings import set_env

Json = dict[str, Any]
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


class Connection:
    """A client's connection to the API, which stays open between requests."""

    def __init__(self, url: str) -> None:
        self.http = http.client.HTTPConnection(urlsplit(url).netloc)

    def request(self, method: str, path: str, body: Json | None = None) -> bytes:
        """Return the body of the response, which must not be an error."""
        headers = {"Content-Type": "application/json"}
        self.http.request(method, path, json.dumps(body) if body else None, headers)
        response = self.http.getresponse()
        content = response.read()
        assert response.status < 300, content
        return content

    def submit(self) -> Json:
        """Submit a chat and return its job document."""
        return dict(json.loads(self.request("POST", "/v1/jobs/chat", CHAT)))

    def run_chat(self) -> None:
        """Submit a chat, and read its events to the end."""
        events = self.request("GET", self.submit()["links"]["events"])
        assert b"event: succeeded" in events, events


def measure_rate(seconds: float, at_once: int, url: str, call: Callable[[Connection], object]) -> float:
    """Return how many calls per second `at_once` clients make, each with a connection of its own."""
    end = time.perf_counter() + seconds

    def run_client(_: int) -> int:
        connection, count = Connection(url), 0
        while time.perf_counter() < end:
            call(connection)
            count += 1
        return count

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        total = sum(pool.map(run_client, range(at_once)))
    return total / (time.perf_counter() - began)


def apply_async_rate(seconds: float) -> float:
    """Return how many messages per second one thread sends with nothing but Celery."""
    end, began, count = time.perf_counter() + seconds, time.perf_counter(), 0
    while time.perf_counter() < end:
        celery.send_task("nothing", args=[uuid.uuid4().hex], queue="bench.nobody")
        count += 1
    return count / (time.perf_counter() - began)


async def open_streams(url: str, jobs: list[Json], cancel: Callable[[], None]) -> tuple[float, float]:
    """Follow all jobs at once, then call `cancel`, which must cancel them all.

    Return the seconds until every stream has its first event, and the seconds from the call of `cancel` until
    every stream has its last.
    """
    address = urlsplit(url)
    all_open = asyncio.Barrier(len(jobs) + 1)

    async def follow(job: Json) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET {job['links']['events']} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        await reader.readuntil(b"event: queued")
        await all_open.wait()
        await reader.readuntil(b"event: canceled")
        writer.close()

    began = time.perf_counter()
    # If one stream fails, the group cancels the others, which would wait at the barrier for ever.
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(follow(job))
        await all_open.wait()
        opened = time.perf_counter()
        group.create_task(asyncio.to_thread(cancel))
    return opened - began, time.perf_counter() - opened


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each row's measurement")
    parser.add_argument("--at-once", type=int, default=32, help="number of clients")
    parser.add_argument("--streams", type=int, default=2000)
    args = parser.parse_args()
    open_files.raise_limit(args.streams)
    with ExitStack() as stack:
        settings = stack.enter_context(scripted_settings(slots=256, max_waiting=1_000_000))
        set_env(**settings.to_env())  # for `apply_async` in this process
        web = running_process(web_argv(settings), settings, settings.home_dir / "web.log")
        api = stack.enter_context(web)
        argv = scripted_argv("bench.noop_worker", settings)
        with running_process(argv, settings, settings.home_dir / "chat.log"):
            connection = Connection(settings.url)
            eventually(lambda: b'"ready"' in get_workers(connection), "a ready worker")
            measure_requests(settings.url, args.seconds, args.at_once, connection)
        measure_streams(settings.url, args.streams, api)


def get_workers(connection: Connection) -> bytes:
    """Return the list of workers, or nothing if the API cannot be reached yet."""
    try:
        return connection.request("GET", "/v1/workers")
    except OSError:
        connection.http.close()
        return b""


def measure_requests(url: str, seconds: float, at_once: int, connection: Connection) -> None:
    """Print the rate of each kind of request."""
    job = connection.submit()["links"]["self"]

    def rate(call: Callable[[Connection], object]) -> Callable[[], float]:
        return lambda: measure_rate(seconds, at_once, url, call)

    rows: dict[str, Callable[[], float]] = {
        "apply_async alone, one thread": lambda: apply_async_rate(seconds),
        "GET /livez": rate(lambda connection: connection.request("GET", "/livez")),
        "GET /v1/jobs/{id}": rate(lambda connection: connection.request("GET", job)),
        "POST /v1/jobs/chat": rate(Connection.submit),
        "POST, then its events to the end": rate(Connection.run_chat),
    }
    print(f"{at_once} clients, one API process, an engine that does nothing")
    for name, measure in rows.items():
        print(f"{name:>34} {measure():8.0f} a second", flush=True)
        eventually(lambda: is_idle(connection), "the end of all jobs", 600)


def is_idle(connection: Connection) -> bool:
    """Return whether no job waits or runs."""
    queues = json.loads(connection.request("GET", "/v1/queues"))["queues"]
    return not any(queue["waiting"] + queue["running"] for queue in queues)


def measure_streams(url: str, count: int, api: psutil.Process) -> None:
    """Print the times and the memory of `count` event streams."""

    def rss() -> int:
        return sum(child.memory_info().rss for child in api.children())

    with ThreadPoolExecutor(8) as pool:
        local = threading.local()

        def connection() -> Connection:
            """Return the connection of this thread."""
            if not hasattr(local, "connection"):
                local.connection = Connection(url)
            return local.connection  # type: ignore[no-any-return]

        jobs = list(pool.map(lambda _: connection().submit(), range(count)))

        def cancel() -> None:
            list(pool.map(lambda job: connection().request("POST", job["links"]["cancel"]), jobs))

        before = rss()
        opened_s, ended_s = asyncio.run(open_streams(url, jobs, cancel))
        stream_kib = (rss() - before) / count / 1024
    print(f"{count} streams open after {opened_s:.1f} s, {stream_kib:.0f} KiB each in the API")
    print(f"{count} jobs canceled, and every stream had received its end after {ended_s:.1f} s")


if __name__ == "__main__":
    main()
