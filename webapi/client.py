"""A small client of the HTTP API, for the command line and the demo."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx
from httpx_sse import connect_sse

from worker.jobs.errors import StokerError
from worker.jobs.events import TERMINAL

__all__ = ["ApiError", "Client", "Json"]

Json = dict[str, Any]

#: Event streams send a comment every 15 s: one silent for longer is broken.
STREAM_TIMEOUT_S = 45.0
#: Waits before each new try at a broken event stream; one event resets them.
RETRIES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)


class ApiError(StokerError):
    """The API cannot be reached, or refused the request; the message is the problem's detail."""

    code = "api_error"


class Client:
    """The API at `url`, and a context manager that closes its connections. Methods raise `ApiError`."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.http = httpx.Client(base_url=self.url, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def submit_chat(self, body: Mapping[str, Any]) -> Json:
        """Submit a chat; the queued job."""
        return self._json("POST", "/v1/jobs/chat", json=body)

    def submit_video(self, clip: Path, background: str | None = None, **form: str | None) -> Json:
        """Upload a clip; `background` is a colour or the path of an image. The queued job."""
        with ExitStack() as stack:
            files = {"file": (clip.name, stack.enter_context(clip.open("rb")))}
            if background and not background.startswith("#"):
                image = Path(background)
                files["background"] = (image.name, stack.enter_context(image.open("rb")))
            else:
                form["background"] = background
            data = {name: value for name, value in form.items() if value is not None}
            return self._json("POST", "/v1/jobs/video", files=files, data=data)

    def job(self, job_id: str) -> Json:
        """The job as it stands."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def jobs(self, state: str, limit: int = 100) -> list[Json]:
        """Jobs in this state, newest first."""
        return list(self._json("GET", "/v1/jobs", params={"state": state, "limit": limit})["jobs"])

    def queues(self) -> list[Json]:
        """The queues."""
        return list(self._json("GET", "/v1/queues")["queues"])

    def workers(self) -> list[Json]:
        """The live workers."""
        return list(self._json("GET", "/v1/workers")["workers"])

    def memory(self, job_id: str) -> Json:
        """The memory figures of the job's batches."""
        return self._json("GET", f"/v1/jobs/{job_id}/memory")

    def cancel(self, job_id: str) -> Json:
        """Ask for the job's end."""
        return self._json("POST", f"/v1/jobs/{job_id}/cancel")

    def ready(self) -> bool:
        """Whether the API, Redis and a worker of each kind are ready."""
        try:
            return self.http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def download(self, job_id: str, target: Path) -> None:
        """Save the result; `target` appears whole or not at all."""
        part = target.with_name(f".{target.name}.part-{os.getpid()}")
        try:
            with part.open("wb") as file, self.http.stream("GET", f"/v1/jobs/{job_id}/result") as response:
                _check(response)
                for chunk in response.iter_bytes():
                    file.write(chunk)
            part.replace(target)
        except httpx.TransportError as error:
            raise ApiError(f"the download broke off: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def events(self, job_id: str, after: int = 0) -> Iterator[Json]:
        """The job's events to its end, from the one after `after`; a broken stream is resumed."""
        failures = 0
        while True:
            try:
                for event in self._stream(job_id, after):
                    after, failures = event["n"], 0
                    yield event
                    if event["type"] in TERMINAL:
                        return
            except httpx.TransportError as error:
                if failures == len(RETRIES_S):
                    raise ApiError(f"the event stream at {self.url} is broken: {error}") from error
            time.sleep(RETRIES_S[failures])
            failures += 1

    def follow(self, job_id: str) -> Iterator[Json]:
        """The events of a job that succeeds; raises `ApiError` for any other end."""
        for event in self.events(job_id):
            if event["type"] == "failed":
                raise ApiError(f"the job failed: {event['code']}: {event['message']}")
            if event["type"] == "canceled":
                raise ApiError("the job was canceled")
            yield event

    def _stream(self, job_id: str, after: int) -> Iterator[Json]:
        headers, path = {"Last-Event-ID": str(after)}, f"/v1/jobs/{job_id}/events"
        with connect_sse(self.http, "GET", path, headers=headers, timeout=STREAM_TIMEOUT_S) as source:
            if source.response.status_code >= 500:  # the API is being restarted
                raise httpx.RemoteProtocolError(f"status {source.response.status_code}")
            _check(source.response)
            for sse in source.iter_sse():
                if sse.data:  # httpx-sse makes an empty event of a heartbeat
                    yield json.loads(sse.data)
        raise httpx.RemoteProtocolError("it ended before the job did")

    def _json(self, method: str, path: str, **kwargs: Any) -> Json:
        try:
            response = self.http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise ApiError(f"no answer from the API at {self.url}: {error}") from error
        _check(response)
        return dict(response.json())


def _check(response: httpx.Response) -> None:
    """Raise `ApiError` with the problem's detail unless the response is a good one."""
    if response.is_success:
        return
    response.read()
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        field = f"{problem['field']}: " if "field" in problem else ""
        raise ApiError(field + str(problem.get("detail") or problem.get("title")))
    raise ApiError(f"{response.request.url} answered {response.status_code} {response.reason_phrase}")
