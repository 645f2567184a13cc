"""The traffic: clients outside the containers that submit chats and follow each to its end."""

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.compose.project import Project
from tests.support.event_checks import Expected, Flaw, check_chat, check_log
from tests.support.stack import eventually
from webapi.client import ApiError, Client
from worker.jobs.events import TERMINAL

__all__ = ["Chat", "Traffic"]

Json = dict[str, Any]

#: Whatever happens to the API, it must accept a job again within this time.
STUCK_S = 120.0
#: Seconds before a refused submit is sent again.
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Chat:
    """A greedy chat of a fixed length, whose answer is always the same."""

    content: str
    tokens: int

    @property
    def body(self) -> Mapping[str, Any]:
        """The body for `POST /v1/jobs/chat`."""
        messages = [{"role": "user", "content": self.content}]
        return {"messages": messages, "temperature": 0, "max_tokens": self.tokens, "ignore_eos": True}


class Traffic:
    """Clients that submit chats and follow all of them."""

    def __init__(self, project: Project, key: str) -> None:
        #: The chat of each accepted job.
        self.chats: dict[str, Chat] = {}
        #: The events that clients have received so far, by job.
        self.seen: dict[str, list[Json]] = {}
        #: The ids of the jobs that have ended, in the order of their ends.
        self.ended: list[str] = []
        #: Errors that no client should get.
        self.errors: list[str] = []
        self._project, self._key = project, key
        self._finishing = threading.Event()
        self._threads: list[threading.Thread] = []

    def run_references(self, chats: Sequence[Chat]) -> None:
        """Run each chat once. Their outcomes are the expected ones of all later chats."""
        jobs = {chat: self.start_chat(chat) for chat in chats}
        ends = {chat: self.wait_for_event(job_id, "succeeded") for chat, job_id in jobs.items()}
        self._expected = {
            chat: Expected(
                end["result"]["text"], end["usage"]["completion_tokens"], end["result"]["finish_reason"]
            )
            for chat, end in ends.items()
        }

    def start(self, clients: int, chats: Sequence[Chat]) -> None:
        """Start this many clients. Each runs one chat at a time until `finish`."""
        turns = itertools.cycle(chats)
        for _ in range(clients):
            self._start_thread(lambda: self._run_chats(turns))

    def start_chat(self, chat: Chat) -> str:
        """Submit a chat, let a thread follow it, and return the id of its job."""
        with self._project.client(self._key) as client:
            job_id = self._submit(client, chat)
        self._start_thread(lambda: self._follow(job_id))
        return job_id

    def finish(self) -> None:
        """Submit no more chats, and wait for the end of those that were submitted."""
        self._finishing.set()
        for thread in self._threads:
            thread.join(STUCK_S)
            if thread.is_alive():
                self.errors.append(f"{thread.name} still waits for its job's next event")

    def measure_rate(self, jobs: int) -> float:
        """Wait until this many more jobs have ended, and return their number per second."""
        first, began = len(self.ended), time.monotonic()
        eventually(lambda: len(self.ended) >= first + jobs, f"{jobs} more jobs", 3 * STUCK_S)
        return jobs / (time.monotonic() - began)

    def wait_for_event(self, job_id: str, event_type: str, count: int = 1, after: int = 0) -> Json:
        """Wait for and return the job's event number `count` of this type among those after number `after`.

        Fails if the job ends without it.
        """

        def find() -> Json | None:
            seen = list(self.seen[job_id])
            matching = [event for event in seen if event["type"] == event_type and event["n"] > after]
            if len(matching) >= count:
                return matching[count - 1]
            assert not seen or seen[-1]["type"] not in TERMINAL, f"no {event_type} {count} in {seen}"
            return None

        return eventually(find, f"{event_type} of {job_id}", STUCK_S)

    def jobs_by_host(self, since: int = 0) -> Mapping[str, int]:
        """Count the ended jobs by the container of their worker, without the first `since` jobs."""
        return Counter(self._host(job_id) for job_id in self.ended[since:])

    def _host(self, job_id: str) -> str:
        """Return the container of the job's last attempt. The name of a worker is kind-host-pid-random."""
        started = [event for event in self.seen[job_id] if event["type"] == "started"]
        return str(started[-1]["worker"].split("-")[1])

    def find_flaws(self) -> Iterator[Flaw]:
        """Check the log of every job, and compare it with the events that its client received."""
        with self._project.client(self._key) as client:
            for job_id, chat in self.chats.items():
                log = list(client.events(job_id))
                yield from check_log(log)
                yield from check_chat(log, self._expected[chat])
                if self.seen[job_id] != log:
                    yield Flaw("follower", f"a client received {self.seen[job_id]}, and the log is {log}")

    def _start_thread(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"client {len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_chats(self, chats: Iterator[Chat]) -> None:
        with self._project.client(self._key) as client:
            while not self._finishing.is_set():
                self._follow(self._submit(client, next(chats)))

    def _submit(self, client: Client, chat: Chat) -> str:
        """Submit the chat until the API accepts it. The idempotency key makes one job of all attempts."""
        key, deadline = uuid.uuid4().hex, time.monotonic() + STUCK_S
        while True:
            try:
                job_id = str(client.submit_chat(chat.body, idempotency_key=key)["id"])
                break
            except ApiError as error:
                if time.monotonic() > deadline:
                    self.errors.append(f"submit: {error}")
                    raise
            self._finishing.wait(RETRY_S)
        self.chats[job_id], self.seen[job_id] = chat, []
        return job_id

    def _follow(self, job_id: str) -> None:
        with self._project.client(self._key) as client:
            try:
                for event in client.events(job_id):
                    self.seen[job_id].append(event)
                self.ended.append(job_id)
            except ApiError as error:
                self.errors.append(f"following {job_id}: {error}")
