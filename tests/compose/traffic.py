"""The traffic: clients outside the containers that ask, follow each answer to its end, and ask again."""

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.compose.project import Project
from tests.support.event_checks import Expected, Flaw, check_chat, check_log
from tests.support.stack import eventually
from webapi.client import ApiError, Client
from worker.jobs.events import TERMINAL

__all__ = ["Chat", "Traffic"]

Json = dict[str, Any]

#: Within which the API takes a job again, whatever was done to it.
STUCK_S = 120.0
PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Chat:
    """A greedy chat of a fixed length, so that its answer is always the same."""

    content: str
    tokens: int

    @property
    def body(self) -> Mapping[str, Any]:
        """For `POST /v1/jobs/chat`."""
        messages = [{"role": "user", "content": self.content}]
        return {"messages": messages, "temperature": 0, "max_tokens": self.tokens, "ignore_eos": True}


class Traffic:
    """Follows every chat that it asks; a context manager in which its clients may be started."""

    def __init__(self, project: Project, key: str) -> None:
        self.asked: dict[str, Chat] = {}
        #: The events that their clients have seen so far, by job.
        self.seen: dict[str, list[Json]] = {}
        #: The jobs that have ended, in that order.
        self.ended: list[str] = []
        self.surprises: list[str] = []
        self._project, self._key = project, key
        self._enough = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, clients: int, chats: list[Chat]) -> None:
        """So many clients, each with one chat at a time, until `finish`."""
        turns = itertools.cycle(chats)
        for _ in range(clients):
            self._run(lambda: self._ask_on(turns))

    def open(self, chat: Chat) -> str:
        """Ask and have it followed; the job."""
        with self._project.client(self._key) as client:
            job_id = self._ask(client, chat)
        self._run(lambda: self._follow(job_id))
        return job_id

    def finish(self) -> None:
        """Ask no more, and wait for what is asked."""
        self._enough.set()
        for thread in self._threads:
            thread.join(STUCK_S)
            if thread.is_alive():
                self.surprises.append(f"{thread.name} still waits for its job's next event")

    def rate(self, jobs: int) -> float:
        """Jobs a second, over the next so many that end."""
        first, began = len(self.ended), time.monotonic()
        eventually(lambda: len(self.ended) >= first + jobs, f"{jobs} more jobs", 3 * STUCK_S)
        return jobs / (time.monotonic() - began)

    def until(self, job_id: str, what: str, count: int = 1, after: int = 0) -> Json:
        """The job's event number `count` of this type that comes behind number `after`."""

        def found() -> Json | None:
            seen = list(self.seen[job_id])
            fitting = [event for event in seen if event["type"] == what and event["n"] > after]
            if len(fitting) >= count:
                return fitting[count - 1]
            assert not seen or seen[-1]["type"] not in TERMINAL, f"no {what} {count} in {seen}"
            return None

        return eventually(found, f"{what} of {job_id}", STUCK_S)

    def hosts(self, since: int = 0) -> Mapping[str, int]:
        """How many jobs the workers' containers have ended, leaving out the first so many."""
        return Counter(self._host(job_id) for job_id in self.ended[since:])

    def _host(self, job_id: str) -> str:
        """That of the last attempt: a worker is called kind-host-pid-random."""
        started = [event for event in self.seen[job_id] if event["type"] == "started"]
        return str(started[-1]["worker"].split("-")[1])

    def flaws(self, expected: Mapping[Chat, Expected]) -> Iterator[Flaw]:
        """Everything that is wrong with a job's log, or with what its client saw of it."""
        with self._project.client(self._key) as client:
            for job_id, chat in self.asked.items():
                log = list(client.events(job_id))
                yield from check_log(log)
                yield from check_chat(log, expected[chat])
                if self.seen[job_id] != log:
                    yield Flaw("follower", f"a client saw {self.seen[job_id]}, and the log is {log}")

    def _run(self, work: Any) -> None:
        thread = threading.Thread(target=work, name=f"client {len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _ask_on(self, turns: Iterator[Chat]) -> None:
        with self._project.client(self._key) as client:
            while not self._enough.is_set():
                self._follow(self._ask(client, next(turns)))

    def _ask(self, client: Client, chat: Chat) -> str:
        """Until the API takes it: of one key comes one job, however often it is sent."""
        key, deadline = uuid.uuid4().hex, time.monotonic() + STUCK_S
        while True:
            try:
                job_id = str(client.submit_chat(chat.body, idempotency_key=key)["id"])
                break
            except ApiError as error:
                if time.monotonic() > deadline:
                    self.surprises.append(f"submit: {error}")
                    raise
            self._enough.wait(PAUSE_S)
        self.asked[job_id], self.seen[job_id] = chat, []
        return job_id

    def _follow(self, job_id: str) -> None:
        with self._project.client(self._key) as client:
            try:
                for event in client.events(job_id):
                    self.seen[job_id].append(event)
                self.ended.append(job_id)
            except ApiError as error:
                self.surprises.append(f"following {job_id}: {error}")
