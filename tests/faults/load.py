"""The load: clients that submit chats and videos over HTTP until it is enough, and some that follow them."""

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

#: Submitters go on while fewer jobs than these wait.
WAITING = {"chat": 30, "video": 2}
#: After so many chats one is canceled, out of so many of the last ones: it may wait, run or have ended.
CANCEL_EVERY, RECENT = 17, 60
#: Between two looks at the queues, and before a refused submit is tried again.
PAUSE_S = 0.1
#: No fault keeps the API from taking jobs, or the workers from doing them, for longer.
STUCK_S = 90.0


class Load:
    """Clients that submit at least so many chats and videos, and go on until it is enough.

    `submitters` see to it that always some chats wait, each of the `followers` submits one and follows it to
    its end. `chat` makes the body of chat number n.
    """

    def __init__(
        self,
        settings: Settings,
        least: Mapping[str, int],
        chat: Callable[[int], Json],
        clip: Path,
        *,
        submitters: int,
        followers: int,
    ) -> None:
        self.accepted: list[str] = []
        #: Those that may have been canceled.
        self.canceled: set[str] = set()
        #: The events that clients saw, by job.
        self.seen: dict[str, list[Json]] = {}
        #: What no client should get: answers but 202, 429 and 503, streams that stay broken.
        self.surprises: list[str] = []
        self._url = settings.url
        self._least = least
        self._chat = chat
        self._clip = clip.read_bytes()
        self._numbers = {kind: itertools.count(1) for kind in least}
        self._enough = threading.Event()
        self._stuck = threading.Event()
        self._pause = threading.Event()
        works = [self._submit_videos, *[self._submit_chats] * submitters]
        self._submitters = [threading.Thread(target=work, daemon=True) for work in works]
        self._followers = [threading.Thread(target=self._follow, daemon=True) for _ in range(followers)]

    def start(self) -> None:
        """Begin to submit."""
        for thread in self._submitters + self._followers:
            thread.start()

    def finish(self) -> None:
        """It is enough: wait until the least is submitted, and what is followed has ended."""
        self._enough.set()
        for thread in self._submitters:
            thread.join()
        for thread in self._followers:
            thread.join(STUCK_S)
            if thread.is_alive():
                self.surprises.append("a client still waits for its job's next event")

    def _turns(self, kind: str) -> Iterator[int]:
        """Numbers of jobs, until the least is reached and it is enough."""
        for number in self._numbers[kind]:
            if self._stuck.is_set() or (number > self._least[kind] and self._enough.is_set()):
                return
            yield number

    def _tries(self, what: str) -> Iterator[int]:
        """Numbers, with pauses; when they come to nothing for too long the campaign must come to an end."""
        deadline = time.monotonic() + STUCK_S
        for number in itertools.count(1):
            yield number
            self._pause.wait(PAUSE_S)
            if time.monotonic() > deadline:
                self.surprises.append(f"{number} times in vain: {what}")
                self._stuck.set()
                return

    def _submit_chats(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for number in self._turns("chat"):
                self._wait_for_room(http, "chat")
                self._submit(http, "chat", json=self._chat(number))
                if number % CANCEL_EVERY == 0:
                    self._cancel(http, self.accepted[-(number % RECENT) - 1 :][0])

    def _cancel(self, http: httpx.Client, job_id: str) -> None:
        """Once, whatever the answer: it may be canceled or not."""
        self.canceled.add(job_id)
        with suppress(httpx.TransportError):
            http.post(f"/v1/jobs/{job_id}/cancel")

    def _submit_videos(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for _ in self._turns("video"):
                self._wait_for_room(http, "video")
                self._submit(http, "video", files={"file": self._clip})

    def _follow(self) -> None:
        with Client(self._url) as client:
            for number in self._turns("chat"):
                job_id = self._submit(client.http, "chat", json=self._chat(number))
                try:
                    if job_id:
                        self.seen[job_id] = list(client.events(job_id))
                except ApiError as error:
                    self.surprises.append(f"following {job_id}: {error}")

    def _wait_for_room(self, http: httpx.Client, kind: str) -> None:
        for _ in self._tries(f"a {kind} looks for room in the queue"):
            with suppress(httpx.HTTPError):
                queues = http.get("/v1/queues").raise_for_status().json()["queues"]
                if sum(q["waiting"] for q in queues if q["name"].startswith(kind)) < WAITING[kind]:
                    return

    def _submit(self, http: httpx.Client, kind: str, **body: Any) -> str | None:
        """The job, as soon as the API takes it; None if it does not.

        An answer may get lost, and its job be there all the same: it is tried again, and makes another job.
        """
        for _ in self._tries(f"a {kind} is submitted"):
            with suppress(httpx.TransportError):
                response = http.post(f"/v1/jobs/{kind}", **body)
                if response.status_code == 202:
                    self.accepted.append(job_id := str(response.json()["id"]))
                    return job_id
                if response.status_code not in (429, 503):
                    self.surprises.append(f"submit: {response.status_code} {response.text}")
                    break
        return None
