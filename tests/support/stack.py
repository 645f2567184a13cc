"""The whole stack, started by the commands that users run: `stoker worker chat`, `worker video` and `web`."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from httpx_sse import connect_sse

from tests.support.assets import asset
from worker.jobs.settings import Settings, child_env

__all__ = ["SLOTS", "WAIT_S", "Stack", "eventually", "free_port", "main_event_types", "running_stack"]

Json = dict[str, Any]
T = TypeVar("T")

SLOTS = 8
#: An event that is never set. Its `wait` is the pause between two checks of a condition.
PAUSE = threading.Event()
WAIT_S = 90.0
MODELS = ("SmolLM2-135M-Instruct.Q4_1.gguf", "selfie_segmentation.tflite")


def eventually(ask: Callable[[], T | None], what: str, wait_s: float = WAIT_S) -> T:
    """Call `ask` until it returns a true value, and return that value.

    Raises `TimeoutError` with the text `what` after `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        PAUSE.wait(0.02)
    raise TimeoutError(what)


def main_event_types(types: Iterable[str]) -> list[str]:
    """Return the types of a job's events, without tokens, and without `queued` after the first event.

    A waiting job gets further `queued` events when its position changes.
    """
    return [kind for n, kind in enumerate(types) if kind != "token" and (n == 0 or kind != "queued")]


class Stack:
    """The processes of a stack, and an HTTP client of its API."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.http = httpx.Client(base_url=settings.url, timeout=30)
        settings.home_dir.mkdir(parents=True, exist_ok=True)
        settings.models_dir.symlink_to(asset(MODELS[0]).parent)

    def log(self, name: str) -> Path:
        return self.settings.home_dir / f"{name}.log"

    def start(self, name: str, *command: str) -> None:
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "webapi.cli", *command],
                env=child_env(self.settings),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(WAIT_S)

    def ready(self) -> bool | None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {self.log(name).read_text()[-2000:]}")
        try:
            return self.http.get("/readyz").status_code == 200 or None
        except httpx.TransportError:
            return None

    def run_cli(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "webapi.cli", *command],
            env=child_env(self.settings),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def chat(self, content: str, **options: Any) -> Json:
        body = {"messages": [{"role": "user", "content": content}], **options}
        response = self.http.post("/v1/jobs/chat", json=body)
        assert response.status_code == 202, response.text
        return dict(response.json())

    def video(self, clip: Path, **form: str) -> Json:
        with clip.open("rb") as file:
            response = self.http.post("/v1/jobs/video", files={"file": file}, data=form)
        assert response.status_code == 202, response.text
        return dict(response.json())

    def job(self, job: Json) -> Json:
        return dict(self.http.get(f"/v1/jobs/{job['id']}").json())

    def cancel(self, job: Json) -> httpx.Response:
        return self.http.post(f"/v1/jobs/{job['id']}/cancel")

    def events(self, job: Json, after: int = 0) -> Iterator[Json]:
        """Yield the job's events after number `after` from its event stream, up to the terminal event."""
        url = f"/v1/jobs/{job['id']}/events"
        with connect_sse(self.http, "GET", url, params={"starting_after": after}) as source:
            for event in source.iter_sse():
                if not event.data:
                    continue  # httpx-sse turns a heartbeat comment into an event without data
                data = event.json()
                assert (event.id, event.event) == (str(data["n"]), data["type"])
                yield data

    def until(self, job: Json, kind: str) -> Json:
        """Return the job's first event of this type."""
        return next(event for event in self.events(job) if event["type"] == kind)

    def finished(self, job: Json) -> tuple[Json, list[Json]]:
        """Wait for the job's end; return the job and its events.

        The events must be numbered without a gap, and have exactly one terminal event.
        """
        events = list(self.events(job))
        assert [event["n"] for event in events] == list(range(1, len(events) + 1))
        endings = [e["type"] for e in events if e["type"] in ("succeeded", "failed", "canceled")]
        assert endings == [events[-1]["type"]]
        return self.job(job), events


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running_stack(settings: Settings) -> Iterator[Stack]:
    """Start a stack and yield it when it is ready. At the end, its processes must drain and exit with 0."""
    stack = Stack(settings)
    try:
        stack.start("web", "web")
        stack.start("chat", "worker", "chat", "--slots", str(SLOTS), "--devices", "cpu")
        stack.start("video", "worker", "video", "--devices", "cpu")
        eventually(stack.ready, "a ready stack", 3 * WAIT_S)
        yield stack
        assert {name: stack.stop(name) for name in list(stack.processes)} == dict.fromkeys(
            ("web", "chat", "video"), 0
        )
    finally:
        stack.http.close()
        for process in stack.processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
