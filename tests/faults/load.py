"""The load: clients that submit chats and videos over HTTP, and clients that follow their jobs."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from webapi.client import ApiError, Client
from worker.jobs.settings import Settings

__all__ = ["Load"]

Json = dict[str, Any]

#: Submitters pause while this many jobs wait.
MAX_WAITING = {"chat": 30, "video": 2}
#: Submitters cancel a job after each chat whose number is a multiple of this.
CANCEL_EVERY = 17
#: The canceled job is one of this many most recent ones. It may wait, run or have ended.
RECENT_JOBS = 60
#: Seconds between two looks at the queues, and before a refused submit is sent again.
RETRY_S = 0.1
#: No fault may keep the API from accepting jobs, or the workers from running them, for longer than this.
STUCK_S = 90.0


class Load:
    """Clients that submit at least `minimum` jobs of each kind, and continue until `finish`.

    The `submitters` keep some chats waiting. Each of the `followers` submits one chat at a time and follows
    it to its end. `chat_body` makes the body of chat number n. With `max_videos`, that many videos wait or
    run at most.
    """

    def __init__(
        self,
        settings: Settings,
        minimum: Mapping[str, int],
        chat_body: Callable[[int], Json],
        clip: Path,
        *,
        submitters: int,
        followers: int,
        max_videos: int | None = None,
    ) -> None:
        #: The ids of the jobs that the API has accepted.
        self.accepted: list[str] = []
        #: The ids of the jobs for which a cancel was sent, whatever came of it.
        self.canceled: set[str] = set()
        #: The events that followers received, by job.
        self.seen: dict[str, list[Json]] = {}
        #: When each of these events came, in seconds since the epoch.
        self.arrivals: dict[str, list[float]] = {}
        #: Errors that no client should get: responses other than 202, 429 and 503, and broken streams.
        self.errors: list[str] = []
        self._url = settings.url
        self._minimum = minimum
        self._chat_body = chat_body
        self._clip = clip.read_bytes()
        self._max_videos = max_videos
        self._counters = {kind: itertools.count(1) for kind in minimum}
        self._finishing = threading.Event()
        self._stuck = threading.Event()
        self._pause = threading.Event()
        targets = [self._submit_videos, *[self._submit_chats] * submitters]
        self._submitters = [threading.Thread(target=target, daemon=True) for target in targets]
        self._followers = [threading.Thread(target=self._follow_chats, daemon=True) for _ in range(followers)]

    def start(self) -> None:
        """Start all clients."""
        for thread in self._submitters + self._followers:
            thread.start()

    def finish(self) -> None:
        """Stop when the minimum is reached, and wait for the end of the jobs that clients follow."""
        self._finishing.set()
        for thread in self._submitters:
            thread.join()
        for thread in self._followers:
            thread.join(STUCK_S)
            if thread.is_alive():
                self.errors.append("a client still waits for its job's next event")

    def _job_numbers(self, kind: str) -> Iterator[int]:
        """Yield the numbers of the next jobs, until the minimum is reached and the load finishes."""
        for number in self._counters[kind]:
            if self._stuck.is_set() or (number > self._minimum[kind] and self._finishing.is_set()):
                return
            yield number

    def _attempts(self, action: str) -> Iterator[int]:
        """Yield the numbers of attempts, with pauses between them.

        After `STUCK_S` of attempts, record an error and end the whole load, so that the campaign ends too.
        """
        deadline = time.monotonic() + STUCK_S
        for number in itertools.count(1):
            yield number
            self._pause.wait(RETRY_S)
            if time.monotonic() > deadline:
                self.errors.append(f"{number} failed attempts: {action}")
                self._stuck.set()
                return

    def _submit_chats(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for number in self._job_numbers("chat"):
                self._wait_for_room(http, "chat")
                self._submit(http, "chat", json=self._chat_body(number))
                if number % CANCEL_EVERY == 0:
                    self._cancel(http, self.accepted[-(number % RECENT_JOBS) - 1 :][0])

    def _cancel(self, http: httpx.Client, job_id: str) -> None:
        """Send one cancel, whose response may get lost: the job may be canceled afterwards or not."""
        self.canceled.add(job_id)
        with suppress(httpx.TransportError):
            http.post(f"/v1/jobs/{job_id}/cancel")

    def _submit_videos(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for _ in self._job_numbers("video"):
                self._wait_for_room(http, "video")
                self._submit(http, "video", files={"file": self._clip})

    def _follow_chats(self) -> None:
        with Client(self._url) as client:
            for number in self._job_numbers("chat"):
                job_id = self._submit(client.http, "chat", json=self._chat_body(number))
                try:
                    if job_id:
                        self._follow(client, job_id)
                except ApiError as error:
                    self.errors.append(f"following {job_id}: {error}")

    def _follow(self, client: Client, job_id: str) -> None:
        events, times = self.seen.setdefault(job_id, []), self.arrivals.setdefault(job_id, [])
        for event in client.events(job_id):
            times.append(time.time())
            events.append(event)

    def _wait_for_room(self, http: httpx.Client, kind: str) -> None:
        """Wait until fewer than `MAX_WAITING` jobs of this kind wait, or fewer than `max_videos` exist."""
        limit, states = MAX_WAITING[kind], ["waiting"]
        if kind == "video" and self._max_videos is not None:
            limit, states = self._max_videos, ["waiting", "running"]
        for _ in self._attempts(f"wait for room in the {kind} queue"):
            with suppress(httpx.HTTPError):
                queues = http.get("/v1/queues").raise_for_status().json()["queues"]
                if sum(q[state] for q in queues if q["name"].startswith(kind) for state in states) < limit:
                    return

    def _submit(self, http: httpx.Client, kind: str, **body: Any) -> str | None:
        """Submit the job until the API accepts it, and return its id; None if it is not accepted.

        If a response gets lost its job may exist all the same. The next attempt then makes another job.
        """
        for _ in self._attempts(f"submit a {kind}"):
            with suppress(httpx.TransportError):
                response = http.post(f"/v1/jobs/{kind}", **body)
                if response.status_code == 202:
                    self.accepted.append(job_id := str(response.json()["id"]))
                    return job_id
                if response.status_code not in (429, 503):
                    self.errors.append(f"submit: {response.status_code} {response.text}")
                    break
        return None
