"""The load of the upgrade test: clients that submit one job after the other, and follow each to its end."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tests.support.stack import eventually
from webapi.client import ApiError, Client

__all__ = ["Clients"]

Json = dict[str, Any]

#: Number of clients by kind of job.
CLIENTS = {"chat": 6, "video": 2}
#: Seconds between two tries of a client, and the time after which it gives up.
RETRY_S, STUCK_S = 0.1, 60.0


class Clients:
    """Clients of the API at `url`. `body(kind, n)` returns the arguments of the request for job number n."""

    def __init__(self, url: str, body: Callable[[str, int], Json]) -> None:
        #: The ids of the jobs that the API has accepted.
        self.accepted: list[str] = []
        #: The ids of canceled jobs: these clients cancel none.
        self.canceled: set[str] = set()
        #: The events that clients received, by job.
        self.seen: dict[str, list[Json]] = {}
        #: What no client should get: a refusal, or a stream that stays broken.
        self.errors: list[str] = []
        #: How many jobs of each kind have ended.
        self.ended: Counter[str] = Counter()
        #: How many streams were continued after they had broken off, and how many submits were repeated.
        self.resumed = self.repeated = 0
        self._url, self._body = url, body
        self._numbers = {kind: itertools.count(1) for kind in CLIENTS}
        self._finishing = threading.Event()
        self._pause = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kind,), daemon=True)
            for kind, count in CLIENTS.items()
            for _ in range(count)
        ]

    def start(self) -> None:
        """Start all clients."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Submit no more jobs, and wait for the end of those that run."""
        self._finishing.set()
        for thread in self._threads:
            thread.join(STUCK_S)
            assert not thread.is_alive(), self.errors

    def wait_for(self, more: Mapping[str, int]) -> Mapping[str, int]:
        """Wait until this many more jobs of each kind have ended. Return how many have."""
        before = self.ended.copy()

        def enough() -> bool:
            assert self.errors == [], self.errors
            return all(self.ended[kind] - before[kind] >= count for kind, count in more.items())

        eventually(enough, f"the end of {more}")
        return self.ended - before

    def _run(self, kind: str) -> None:
        waits_s = [RETRY_S] * int(STUCK_S / RETRY_S)
        with Client(self._url, timeout_s=STUCK_S, retry_waits_s=waits_s) as client:
            client.http.event_hooks["request"].append(self._count_resumed)
            while not self._finishing.is_set():
                try:
                    job_id = self._submit(client.http, kind, next(self._numbers[kind]))
                    self.accepted.append(job_id)
                    self.seen[job_id] = list(client.events(job_id))
                    self.ended[kind] += 1
                except (ApiError, httpx.HTTPError) as error:
                    self.errors.append(f"{kind}: {error!r}")
                    return

    def _submit(self, http: httpx.Client, kind: str, number: int) -> str:
        """Submit the job until a response arrives. Raises `httpx.HTTPError` if it is a refusal."""
        headers = {"Idempotency-Key": f"{kind}-{number}"}  # so that a lost response costs no second job
        deadline = time.monotonic() + STUCK_S
        while True:
            try:
                response = http.post(f"/v1/jobs/{kind}", headers=headers, **self._body(kind, number))
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                self.repeated += 1
                self._pause.wait(RETRY_S)
            else:
                return str(response.raise_for_status().json()["id"])

    def _count_resumed(self, request: httpx.Request) -> None:
        self.resumed += request.headers.get("Last-Event-ID", "0") != "0"
